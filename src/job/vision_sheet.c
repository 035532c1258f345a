/* SPDX-License-Identifier: MIT */
/*
 * The contact sheet: one page of HTML for a run, without scripts or anything from elsewhere, that
 * shows each image, its three scores and its tokens side by side, and what the run took.
 */
#include "base/alloc.h"
#include "job/job_parts.h"
#include "job/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_LIMIT 1000 /* images, and as many skipped ones: more nobody looks through */

/* ---- text that is safe in HTML and in links ---- */

static void say_text(struct mr__words *page, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '&'    ? "&amp;"
                             : *text == '<'  ? "&lt;"
                             : *text == '>'  ? "&gt;"
                             : *text == '"'  ? "&quot;"
                             : *text == '\'' ? "&#39;"
                                             : NULL;
        mr__words_add(page, entity ? entity : text, entity ? strlen(entity) : 1);
    }
}

/* A file's name as a link says it: all but letters, digits and "-._" by number. */
static void say_link(struct mr__words *page, const char *folder, const char *name,
                     const char *ending)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    mr__words_say(page, "%s/", folder);
    for (; *name; name++) {
        if (strchr(plain, *name))
            mr__words_add(page, name, 1);
        else
            mr__words_say(page, "%%%02X", (unsigned)(unsigned char)*name);
    }
    mr__words_say(page, "%s", ending);
}

static void say_plain(struct mr__words *page, const char *text)
{
    mr__words_add(page, text, strlen(text));
}

/* ---- the head ---- */

static const char *const style =
    "<style>\n"
    ":root{--ink:#30303a;--soft:#6f6f7a;--line:#dcdcd8;--paper:#f7f7f5;--card:#fff}\n"
    "body{margin:0 auto;max-width:1120px;padding:24px 20px 60px;background:var(--paper);"
    "color:var(--ink);font:15px/1.45 system-ui,sans-serif}\n"
    "h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:28px 0 8px}\n"
    "p{margin:4px 0}.soft{color:var(--soft)}\n"
    ".facts{display:flex;flex-wrap:wrap;gap:28px;align-items:flex-start}\n"
    ".facts>div{flex:1 1 300px}\n"
    "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\n"
    "td,th{text-align:left;padding:3px 10px 3px 0;border-bottom:1px solid var(--line);"
    "font-weight:normal;vertical-align:top}\n"
    "th{color:var(--soft)}td.n{text-align:right;white-space:nowrap}\n"
    ".bar{display:inline-block;height:10px;background:#d73c4b;border-radius:2px;"
    "min-width:1px;vertical-align:middle}\n"
    ".histogram{display:flex;align-items:flex-end;gap:2px;height:110px;"
    "border-bottom:1px solid var(--line)}\n"
    ".histogram i{flex:1;background:#d73c4b;min-height:1px}\n"
    ".ends{display:flex;justify-content:space-between;color:var(--soft);font-size:13px}\n"
    ".scale{height:10px;width:160px;display:inline-block;vertical-align:middle;border-radius:2px;"
    "background:linear-gradient(90deg,#0c0c3c,#461482,#961e78,#d73c4b,#f57d28,#fcbe3c,#fffabe)}\n"
    "article{background:var(--paper);border-top:1px solid var(--line);padding:14px 0 16px}\n"
    "article h3{font-size:15px;margin:0 0 6px;font-weight:600;overflow-wrap:anywhere}\n"
    ".strip{display:inline-grid;grid-template-columns:repeat(5,1fr);column-gap:6px;max-width:100%}"
    "\n"
    ".strip img{grid-column:1/-1;width:100%;height:auto;display:block;border-radius:3px}\n"
    ".strip span{font-size:12px;color:var(--soft);padding-top:3px}\n"
    ".strip b{font-weight:600;color:var(--ink)}\n"
    ".times{font-size:12px;color:var(--soft);margin-top:4px}\n"
    "a{color:#8a2c7c}\n"
    "</style>\n";

/* What each of several devices did. */
static void say_devices(struct mr__words *page, const mr_pipeline_report *report)
{
    for (size_t k = 0; k < report->device_count; k++) {
        const mr_device_report *device = &report->devices[k];
        mr__words_say(page, "%s%s: %" PRIu64 " image%s", k ? " &middot; " : "<p class=\"soft\">",
                      device->device, device->items, mr__plural(device->items));
        if (device->is_lost)
            mr__words_say(page, " and lost, %" PRIu64 " done elsewhere", device->items_moved);
    }
    if (report->device_count)
        say_plain(page, "</p>\n");
}

static void say_head(struct mr__words *page, const mr_job *job)
{
    char batch[MR__VISION_BATCH_WORDS];
    const struct mr__vision_job *vision = job->vision;
    const mr_job_report *report = &job->report;
    const uint64_t skipped = atomic_load(&vision->skipped);
    say_plain(page, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                    "<title>");
    say_text(page, job->name);
    say_plain(page, "</title>\n");
    say_plain(page, style);
    say_plain(page, "</head><body>\n<h1>");
    say_text(page, job->name);
    mr__words_say(page, "</h1>\n<p>%" PRIu64 " image%s done", vision->done,
                  mr__plural(vision->done));
    if (skipped)
        mr__words_say(page, ", <a href=\"#skipped\">%" PRIu64 " skipped</a>", skipped);
    if (report->seconds > 0 && vision->done)
        mr__words_say(page, "; %.3g s on %s, %.4g images/s", report->seconds, report->device,
                      (double)vision->done / report->seconds);
    say_plain(page, "</p>\n<p class=\"soft\">Query: ");
    say_text(page, vision->query_text[0] ? vision->query_text : "none");
    mr__words_say(page, " &middot; %u tokens an image, %u to %u a patch", vision->parameters.budget,
                  vision->parameters.least, vision->parameters.most);
    if (vision->due)
        mr__words_say(page, " &middot; %s%s, %u set%s of streams",
                      mr__vision_mode_names[vision->mode_used], mr__vision_say_batch(vision, batch),
                      vision->sets_used, mr__plural(vision->sets_used));
    say_plain(page, "</p>\n");
    if (report->pipeline)
        say_devices(page, report->pipeline);
}

/* ---- what the run took ---- */

static void say_stages(struct mr__words *page, const mr_job *job)
{
    const struct mr__vision_job *vision = job->vision;
    char text[MR__AMOUNT_BYTES];
    double times[MR__VISION_STAGES], longest = 0;
    for (uint32_t k = 0; k < MR__VISION_STAGES; k++) {
        times[k] = mr__vision_stage_mean_ns(vision, k);
        longest = times[k] > longest ? times[k] : longest;
    }
    say_plain(page, "<div><h2>Milliseconds of one image, on average</h2>\n<table>\n");
    for (uint32_t k = 0; k < MR__VISION_STAGES; k++)
        mr__words_say(page,
                      "<tr><td>%s</td><td class=\"n\">%s</td><td style=\"width:55%%\"><span "
                      "class=\"bar\" style=\"width:%.1f%%\"></span></td></tr>\n",
                      mr__vision_stage_name(k), mr__milliseconds(times[k], text),
                      longest > 0 ? 100 * times[k] / longest : 0);
    say_plain(page, "</table>\n");
    const mr_pipeline_report *report = job->report.pipeline;
    const uint64_t measured = mr__vision_measured(vision);
    if (measured && measured < vision->done)
        mr__words_say(
            page, "<p class=\"soft\">On the device, times of %" PRIu64 " measured image%s.</p>\n",
            measured, mr__plural(measured));
    if (report && report->bottleneck < report->node_count) {
        say_plain(page, "<p class=\"soft\">The stages overlap; the busiest was ");
        say_text(page, report->nodes[report->bottleneck].name);
        say_plain(page, ".</p>\n");
    }
    say_plain(page, "</div>\n");
}

static void say_histogram(struct mr__words *page, const struct mr__vision_job *vision)
{
    uint64_t most = 1;
    for (uint32_t k = 0; k < MR__VISION_BINS; k++)
        most = vision->bins[k] > most ? vision->bins[k] : most;
    say_plain(page, "<div><h2>Patches by tokens</h2>\n<div class=\"histogram\">");
    for (uint32_t k = 0; k < MR__VISION_BINS; k++)
        mr__words_say(page, "<i style=\"height:%.1f%%\" title=\"%" PRIu64 " patches\"></i>",
                      100 * (double)vision->bins[k] / (double)most, vision->bins[k]);
    mr__words_say(page, "</div>\n<div class=\"ends\"><span>%u</span><span>%u tokens</span></div>\n",
                  vision->parameters.least, vision->parameters.most);
    say_plain(page, "<p class=\"soft\">Colours, from least to most: <span "
                    "class=\"scale\"></span><br>Over each image's own range, which stands below "
                    "it; of scores at least a tenth.</p></div>\n");
}

/* ---- the images ---- */

static void say_times(struct mr__words *page, const struct mr__vision_record *record)
{
    char text[MR__AMOUNT_BYTES];
    bool is_first = true;
    say_plain(page, "<div class=\"times\">");
    for (uint32_t k = 0; k < MR__VISION_STAGES; k++) {
        if (!record->stage_ns[k])
            continue;
        mr__words_say(page, "%s%s %s ms", is_first ? "" : " &middot; ", mr__vision_stage_name(k),
                      mr__milliseconds((double)record->stage_ns[k], text));
        is_first = false;
    }
    say_plain(page, "</div>\n");
}

static void say_links(struct mr__words *page, const struct mr__vision_job *vision,
                      const struct mr__vision_record *record)
{
    static const struct {
        enum mr__vision_output output;
        const char *ending, *name;
    } links[] = {
        { MR__VISION_OUT_OVERLAY, ".png", "overlay" },
        { MR__VISION_OUT_TOKENS, ".json", "tokens" },
        { MR__VISION_OUT_TOKENS, ".npy", "tokens.npy" },
        { MR__VISION_OUT_SCORES, ".npy", "scores.npy" },
        { MR__VISION_OUT_COMPRESSED, ".npy", "compressed.npy" },
    };
    say_plain(page, "<div class=\"times\">");
    for (size_t k = 0; k < sizeof links / sizeof links[0]; k++) {
        if (!vision->has_output[links[k].output])
            continue;
        say_plain(page, "<a href=\"");
        say_link(page, mr__vision_output_names[links[k].output], record->name, links[k].ending);
        mr__words_say(page, "\">%s</a> ", links[k].name);
    }
    say_plain(page, "</div>\n");
}

static void say_image(struct mr__words *page, const struct mr__vision_job *vision,
                      const struct mr__vision_record *record)
{
    const struct mr__vision_note *note = &record->note;
    say_plain(page, "<article><h3>");
    say_text(page, record->path);
    mr__words_say(page, "</h3>\n<div class=\"strip\"><img loading=\"lazy\" alt=\"image, three "
                        "scores and tokens\" src=\"");
    say_link(page, mr__vision_output_names[MR__VISION_OUT_SHEET], record->name, ".jpg");
    mr__words_say(page, "\">\n<span><b>image</b><br>%u&times;%u", record->info.width,
                  record->info.height);
    if (record->info.width != record->info.file_width ||
        record->info.height != record->info.file_height)
        mr__words_say(page, " of %u&times;%u", record->info.file_width, record->info.file_height);
    say_plain(page, "</span>");
    for (uint32_t score = 0; score < 3; score++)
        mr__words_say(page, "<span><b>%s</b><br>%.2f to %.2f</span>", mr__vision_score_name(score),
                      (double)note->lowest[score], (double)note->highest[score]);
    mr__words_say(page, "<span><b>tokens</b><br>%u to %u, %u&times;%u patches</span></div>\n",
                  note->least, note->most, record->plan.columns, record->plan.rows);
    say_times(page, record);
    say_links(page, vision, record);
    say_plain(page, "</article>\n");
}

static void say_images(struct mr__words *page, const struct mr__vision_job *vision)
{
    uint64_t shown = 0;
    say_plain(page, "<h2>Images</h2>\n");
    for (size_t k = 0; k < vision->list.count && shown < SHOWN_LIMIT; k++) {
        if (!vision->list.records[k].is_done)
            continue;
        say_image(page, vision, &vision->list.records[k]);
        shown++;
    }
    if (shown < vision->done)
        mr__words_say(page,
                      "<p>And %" PRIu64 " more, which <a href=\"summary.json\">summary.json</a> "
                      "lists.</p>\n",
                      vision->done - shown);
}

static void say_skipped(struct mr__words *page, const struct mr__vision_job *vision)
{
    const uint64_t skipped = atomic_load(&vision->skipped);
    uint64_t shown = 0;
    if (!skipped)
        return;
    say_plain(page, "<h2 id=\"skipped\">Skipped</h2>\n<table><tr><th>image</th><th>reason</th>"
                    "</tr>\n");
    for (size_t k = 0; k < vision->list.count && shown < SHOWN_LIMIT; k++) {
        const struct mr__vision_record *record = &vision->list.records[k];
        if (!record->status)
            continue;
        say_plain(page, "<tr><td>");
        say_text(page, record->path);
        say_plain(page, "</td><td>");
        say_text(page, record->words ? record->words : "");
        say_plain(page, "</td></tr>\n");
        shown++;
    }
    say_plain(page, "</table>\n");
    if (shown < skipped)
        mr__words_say(page, "<p>And %" PRIu64 " more.</p>\n", skipped - shown);
}

mr_status mr__vision_write_sheet(const mr_job *job)
{
    const struct mr__vision_job *vision = job->vision;
    struct mr__words page = { 0 };
    say_head(&page, job);
    if (vision->done) {
        say_plain(&page, "<div class=\"facts\">\n");
        say_stages(&page, job);
        say_histogram(&page, vision);
        say_plain(&page, "</div>\n");
    }
    say_skipped(&page, vision);
    if (vision->done)
        say_images(&page, vision);
    say_plain(&page, "</body></html>\n");
    char *text = mr__words_end(&page);
    if (!text)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the contact sheet");
    const mr_status status =
        mr__vision_folder_write(&vision->folder, "", "index", ".html", text, strlen(text));
    mr__free(text);
    return status;
}
