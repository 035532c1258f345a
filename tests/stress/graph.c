/* SPDX-License-Identifier: MIT */
/*
 * Graphs from several threads at once: random graphs whose nodes compute, captured or built, updated
 * while their launches are in flight, launched on streams that change, against the same computed by
 * this thread.
 *
 * Every node writes one cell: a mix of its own salt and the cells of those before it. A launch is
 * right when every cell is; the cells of the launch before are read, too, so that launches that overlap
 * or change places show.
 */
#include "support/graphs.h"
#include "support/random.h"
#include "support/suite.h"

#include <pthread.h>

enum { THREADS = 4, NODES = 24, STREAMS = 3, ROUNDS = 150, LAUNCHES = 12 };

struct cell {
    uint64_t value;
};

/* A node's host function. */
struct node {
    struct cell *own;
    const struct cell *before[4];
    size_t before_count;
    uint64_t salt;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    a ^= b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2);
    return a * UINT64_C(0xff51afd7ed558ccd);
}

static mr_status node_run(void *context)
{
    const struct node *node = context;
    uint64_t value = mix(node->salt, node->own->value);
    for (size_t i = 0; i < node->before_count; i++)
        value = mix(value, node->before[i]->value);
    if (node->salt % 5 == 0)
        sched_yield();
    node->own->value = value;
    return MR_OK;
}

struct player {
    mr_device *device;
    struct random random;
    mr_stream *streams[STREAMS];
    mr_event *events[STREAMS];
    struct cell cells[NODES], expected[NODES];
    size_t node_count;
    mr_graph_node after[NODES][4];
    size_t after_count[NODES];
};

/* The nodes' contexts: one set for each update, as launches in flight keep theirs. */
struct contents {
    struct node nodes[NODES];
};

static void contents_make(struct player *player, struct contents *contents)
{
    for (size_t k = 0; k < player->node_count; k++) {
        struct node *node = &contents->nodes[k];
        *node = (struct node){ .own = &player->cells[k],
                               .before_count = player->after_count[k],
                               .salt = random_next(&player->random) };
        for (size_t i = 0; i < node->before_count; i++)
            node->before[i] = &player->cells[player->after[k][i] - 1];
    }
}

static void form_make(struct player *player)
{
    struct random *random = &player->random;
    player->node_count = 1 + random_below(random, NODES);
    for (size_t k = 0; k < player->node_count; k++) {
        player->after_count[k] = k ? random_below(random, 4) : 0;
        for (size_t i = 0; i < player->after_count[k]; i++)
            player->after[k][i] = (mr_graph_node)(1 + random_below(random, k));
    }
}

static mr_graph *graph_make(struct player *player, struct contents *contents)
{
    mr_graph *graph;
    CHECK_OK(mr_graph_create(player->device, &graph));
    for (size_t k = 0; k < player->node_count; k++)
        CHECK_OK(mr_graph_add_call(graph, player->after[k], player->after_count[k], node_run,
                                   &contents->nodes[k], NULL));
    return graph;
}

/* The same as a chain over two streams, which keeps every order. */
static mr_graph *graph_capture(struct player *player, struct contents *contents)
{
    mr_stream *first = player->streams[0], *second = player->streams[1];
    CHECK_OK(mr_capture_begin(first));
    for (size_t k = 0; k < player->node_count; k++) {
        mr_stream *stream = k % 2 ? second : first, *other = k % 2 ? first : second;
        CHECK_OK(mr_event_record(player->events[0], other == second && !k ? first : other));
        CHECK_OK(mr_stream_wait_event(stream, player->events[0]));
        CHECK_OK(mr_stream_call(stream, node_run, &contents->nodes[k]));
    }
    if (mr_stream_is_capturing(second)) {
        CHECK_OK(mr_event_record(player->events[1], second));
        CHECK_OK(mr_stream_wait_event(first, player->events[1]));
    }
    return end_capture(first);
}

/* What a launch does, by this thread. */
static void expect_launch(struct player *player, const struct contents *contents)
{
    for (size_t k = 0; k < player->node_count; k++) {
        const struct node *node = &contents->nodes[k];
        uint64_t value = mix(node->salt, player->expected[k].value);
        for (size_t i = 0; i < node->before_count; i++)
            value = mix(value, player->expected[player->after[k][i] - 1].value);
        player->expected[k].value = value;
    }
}

static void play_round(struct player *player, bool is_captured)
{
    static _Thread_local struct contents contents[LAUNCHES];
    mr_graph_executable *executable = NULL;
    size_t current = 0;
    form_make(player);
    memset(player->cells, 0, sizeof player->cells);
    memset(player->expected, 0, sizeof player->expected);
    for (size_t i = 0; i < LAUNCHES; i++) {
        if (!executable || random_below(&player->random, 2)) {
            current = i;
            contents_make(player, &contents[i]);
            mr_graph *graph = is_captured ? graph_capture(player, &contents[i])
                                          : graph_make(player, &contents[i]);
            if (executable)
                CHECK_OK(mr_graph_update(executable, graph));
            else
                executable = instantiate(graph);
            mr_graph_destroy(graph);
        }
        CHECK_OK(
            mr_graph_launch(executable, player->streams[random_below(&player->random, STREAMS)]));
        expect_launch(player, &contents[current]);
    }
    if (random_below(&player->random, 2))
        for (int i = 0; i < STREAMS; i++)
            CHECK_OK(mr_stream_wait(player->streams[i]));
    mr_graph_executable_destroy(executable);
    for (size_t k = 0; k < player->node_count; k++)
        CHECK(player->cells[k].value == player->expected[k].value);
}

static void *play(void *context)
{
    struct player *player = context;
    for (int i = 0; i < STREAMS; i++) {
        CHECK_OK(mr_stream_create(player->device, &(mr_stream_options){ .priority = -(i % 2) },
                                  &player->streams[i]));
        CHECK_OK(mr_event_create(player->device, NULL, &player->events[i]));
    }
    for (int round = 0; round < ROUNDS; round++)
        play_round(player, round % 3 == 0);
    for (int i = 0; i < STREAMS; i++) {
        mr_event_destroy(player->events[i]);
        mr_stream_destroy(player->streams[i]);
    }
    return NULL;
}

static void threads_build_update_and_launch_graphs(mr_device *device)
{
    pthread_t threads[THREADS];
    static struct player players[THREADS];
    for (int i = 0; i < THREADS; i++) {
        players[i] = (struct player){ .device = device, .random = { (uint64_t)i + 17 } };
        CHECK_EQ(0, pthread_create(&threads[i], NULL, play, &players[i]));
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_join(threads[i], NULL));
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(threads_build_update_and_launch_graphs),
    };
    if (argc > 2 && graphs_are_missing(argv[2]))
        return GRAPHS_SKIPPED;
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 6 }, tests, 1);
}
