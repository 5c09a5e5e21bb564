#include "report/page.h"

#include <fmt/format.h>

#include "base/error.h"

namespace retort {

namespace {

// One neutral scale and one accent a theme; the second series gets a colour that colour-blind readers can
// tell from the first.
constexpr const char* kStyle = R"(
:root{--ink:#1a1f2b;--soft:#5b6475;--line:#e3e6ec;--back:#f6f7f9;--card:#fff;--accent:#2557d6;
--second:#d9730d;--good:#1b7f4b;--bad:#b3392f;--code:#f1f3f7}
@media (prefers-color-scheme:dark){:root{--ink:#e7eaf0;--soft:#98a2b3;--line:#2b3140;--back:#11141b;
--card:#191e28;--accent:#7aa2ff;--second:#f0a35b;--good:#5fd39a;--bad:#ff8d82;--code:#141923}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:40px 28px 64px}
h1{font-size:28px;line-height:1.25;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:18px;margin:40px 0 14px;letter-spacing:-.005em}
.about{color:var(--soft);margin:0 0 18px;max-width:75ch}
.facts{display:flex;flex-wrap:wrap;gap:6px 26px;margin:0;padding:0}
.facts div{display:flex;gap:8px}.facts dt{color:var(--soft)}.facts dd{margin:0;font-weight:500;
overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:14px;margin:26px 0 0}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:14px 16px}.tile .label{color:var(--soft);font-size:13px}.tile .value{font-size:25px;
font-weight:650;letter-spacing:-.01em;font-variant-numeric:tabular-nums}
.tile .note{color:var(--soft);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:16px}
.card{padding:14px 16px}.card h3{margin:0 0 4px;font-size:14px;font-weight:600}
.card h3 span{color:var(--soft);font-weight:400}
.legend{float:right;font-size:12.5px;color:var(--soft)}.legend i{display:inline-block;width:14px;height:3px;
border-radius:2px;margin:0 5px 3px 12px}
svg{display:block;width:100%;height:auto}
.grid{stroke:var(--line)}.axis{stroke:var(--soft);opacity:.5}.tick{fill:var(--soft);font-size:11.5px}
.line{fill:none;stroke-width:1.9;stroke-linejoin:round}.faint{opacity:.28;stroke-width:1.1}
.line.c0{stroke:var(--accent)}.line.c1{stroke:var(--second)}.line.c2{stroke:var(--good)}
.dot.c0{fill:var(--accent)}.dot.c1{fill:var(--second)}.dot.c2{fill:var(--good)}
i.c0{background:var(--accent)}i.c1{background:var(--second)}i.c2{background:var(--good)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:8px 12px;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500;font-size:13px}th:first-child,td:first-child{text-align:left}
.prose th:last-child,.prose td:last-child{text-align:left;white-space:normal;overflow-wrap:anywhere;width:80%}
tr:last-child td{border-bottom:0}td:first-child{font-weight:500}
.note{color:var(--soft);font-size:13.5px}.card>.note{margin:10px 0 0}
.samples td{text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;vertical-align:top;font-weight:400;
min-width:120px}
.samples th{text-align:left}.samples td:first-child{max-width:380px}
.right{color:var(--good)}.wrong{color:var(--bad)}
ul{padding-left:20px;margin:0}
details{margin-top:12px}summary{cursor:pointer;font-weight:500}
pre{background:var(--code);border:1px solid var(--line);border-radius:8px;padding:14px 16px;overflow-x:auto;
font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:12px 0 0}
.hashes td,.hashes th{text-align:left;font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.hashes td:nth-child(2){text-align:right}
footer{margin-top:44px;color:var(--soft);font-size:13px;border-top:1px solid var(--line);padding-top:14px}
@media (max-width:560px){.charts{grid-template-columns:1fr}main{padding:24px 14px}}
@media print{body{background:#fff}.tile,.card{break-inside:avoid}
details::details-content{content-visibility:visible;display:block;height:auto}}
)";

std::string table_html(const Table& table) {
  std::string html = fmt::format("<div class=\"card\"><div class=\"scroll\"><table{}><thead><tr>",
                                 table.prose ? " class=\"prose\"" : "");
  for (const auto& cell : table.head) html += fmt::format("<th>{}</th>", escape_html(cell));
  html += "</tr></thead><tbody>";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (const auto& cell : row)
      html += fmt::format("<td{}>{}</td>",
                          cell == "broken" || cell == "failed" ? " class=\"wrong\""
                          : cell == "passed"                   ? " class=\"right\""
                                                               : "",
                          escape_html(cell));
    html += "</tr>";
  }
  html += "</tbody></table></div>";
  if (!table.note.empty()) html += fmt::format("<p class=\"note\">{}</p>", escape_html(table.note));
  return html + "</div>";
}

std::string chart_html(const Chart& chart) {
  std::string legend;
  int shown = 0;
  for (const auto& series : chart.series) {
    if (!series.faint) legend += fmt::format("<i class=\"c{}\"></i>{}", shown++, escape_html(series.name));
  }
  return fmt::format("<div class=\"card\"><h3>{}{} <span>{}</span></h3>{}</div>",
                     shown > 1 ? fmt::format("<span class=\"legend\">{}</span>", legend) : "",
                     escape_html(chart.title), escape_html(chart.unit), chart_svg(chart));
}

std::string samples_html(const std::vector<ShownSample>& samples) {
  std::string html =
      "<div class=\"card\"><div class=\"scroll\"><table "
      "class=\"samples\"><thead><tr><th>Prompt</th><th>Expected</th><th>Base</th><th>Tuned</th></tr></"
      "thead><tbody>";
  const auto answer = [](const std::string& text, bool right) {
    return fmt::format("<td class=\"{}\">{} {}</td>", right ? "right" : "wrong",
                       right ? "&#10003;" : "&#10007;", escape_html(text));
  };
  for (const auto& sample : samples) {
    html += fmt::format("<tr><td>{}</td><td>{}</td>{}{}</tr>", escape_html(sample.prompt),
                        escape_html(sample.expected), answer(sample.before, sample.right_before),
                        answer(sample.after, sample.right_after));
  }
  return html + "</tbody></table></div></div>";
}

std::string hashes_html(const std::string& title, const std::vector<FileRecord>& records) {
  std::string html = fmt::format(
      "<details><summary>{} ({})</summary><div class=\"scroll\"><table "
      "class=\"hashes\"><thead><tr><th>file</th><th>bytes</th><th>sha256</th></tr></thead><tbody>",
      escape_html(title), records.size());
  for (const auto& record : records)
    html += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", escape_html(record.path), record.bytes,
                        record.sha256);
  return html + "</tbody></table></div></details>";
}

}  // namespace

std::string page_html(const Page& page) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light "
      "dark\">\n<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n<h1>{}</h1>\n",
      escape_html(page.title), kStyle, escape_html(page.title));
  if (!page.about.empty()) html += fmt::format("<p class=\"about\">{}</p>\n", escape_html(page.about));
  html += "<dl class=\"facts\">";
  for (const auto& [name, value] : page.facts)
    html += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", escape_html(name), escape_html(value));
  html += "</dl>\n<div class=\"tiles\">";
  for (const auto& tile : page.tiles) {
    html += fmt::format(
        "<div class=\"tile\"><div class=\"label\">{}</div><div class=\"value\">{}</div><div "
        "class=\"note\">{}</div></div>",
        escape_html(tile.label), escape_html(tile.value), escape_html(tile.note));
  }
  html += "</div>\n";
  for (const auto& table : page.tables)
    html += fmt::format("<h2>{}</h2>\n{}\n", escape_html(table.title), table_html(table));
  if (!page.charts.empty()) {
    html += "<h2>Training</h2>\n<div class=\"charts\">";
    for (const auto& chart : page.charts) html += chart_html(chart);
    html += "</div>\n";
  }
  if (!page.samples.empty())
    html += "<h2>Held-out samples, before and after</h2>\n" + samples_html(page.samples) + "\n";
  for (const auto& table : page.later_tables)
    html += fmt::format("<h2>{}</h2>\n{}\n", escape_html(table.title), table_html(table));
  if (!page.notes.empty()) {
    html += "<h2>Notes</h2>\n<div class=\"card\"><ul>";
    for (const auto& note : page.notes) html += fmt::format("<li>{}</li>", escape_html(note));
    html += "</ul></div>\n";
  }
  html += fmt::format(
      "<h2>Record</h2>\n<div class=\"card\"><details><summary>Resolved "
      "recipe</summary><pre>{}</pre></details>\n<p class=\"note\">Recipe sha256 {}</p>{}{}</div>\n",
      escape_html(page.recipe), escape_html(page.recipe_sha256), hashes_html("Files read", page.read),
      hashes_html("Files written", page.written));
  return html + fmt::format("<footer>{}</footer>\n</main>\n</body>\n</html>\n", escape_html(page.footer));
}

}  // namespace retort
