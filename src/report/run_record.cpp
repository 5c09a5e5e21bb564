#include "report/run_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/fidelity.h"
#include "report/metrics.h"
#include "report/progress.h"

namespace retort {

namespace {

constexpr double kMiB = 1 << 20, kGiB = 1 << 30;

std::string number(double value) {
  if (!std::isfinite(value)) return "-";
  if (value != 0 && std::abs(value) < 1e-3) return fmt::format("{:.1e}", value);
  if (std::abs(value) < 10) return fmt::format("{:.3f}", value);
  return fmt::format("{:.1f}", value);
}

std::string percent(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "-";
}

std::string score(const ScoreColumn& column, const std::optional<double>& value) {
  if (!value) return "-";
  return column.share ? percent(*value) : number(*value);
}

std::string size(const std::optional<uint64_t>& bytes) {
  return bytes ? fmt::format("{:.1f} MiB", static_cast<double>(*bytes) / kMiB) : "-";
}

Series series_of(const std::vector<MetricRow>& rows, const std::string& tag, const std::string& name,
                 double scale = 1, bool faint = false) {
  Series series{name, {}, faint};
  for (const auto& row : rows)
    for (const auto& [key, value] : row.scalars)
      if (key == tag) series.points.emplace_back(static_cast<double>(row.step), value * scale);
  return series;
}

std::vector<Chart> charts_of(const std::filesystem::path& folder) {
  const auto metrics = read_metrics(folder / "metrics.jsonl"), speed = read_metrics(folder / "speed.jsonl");
  if (metrics.empty()) return {};
  const auto loss = series_of(metrics, "loss", "", 1, true);
  auto trained = smoothed(loss, std::max(3.0, static_cast<double>(loss.points.size()) / 20));
  trained.name = "training, smoothed";
  Chart losses{"Loss", "nats per supervised token", {loss, trained}, true};
  auto held_out = series_of(metrics, "held_out_loss", "held out");
  if (!held_out.points.empty()) losses.series.push_back(std::move(held_out));
  std::vector<Chart> charts{losses};
  if (auto indexer = series_of(speed, "indexer_kl", ""); !indexer.points.empty())
    charts.push_back({"Indexer", "nats a token between attention and indexer", {std::move(indexer)}, true});
  charts.push_back({"Learning rate", "", {series_of(metrics, "learning_rate", "")}, true});
  charts.push_back({"Gradient norm", "before clipping", {series_of(metrics, "gradient_norm", "")}, true});
  charts.push_back({"Speed", "tokens/s", {series_of(speed, "tokens_per_second", "")}, true});
  charts.push_back({"Memory", "GiB resident", {series_of(speed, "resident_bytes", "", 1 / kGiB)}, true});
  return charts;
}

// The first column's score and the held-out loss before and after, what training took.
std::vector<Tile> tiles_of(const RunRecord& record) {
  std::vector<Tile> tiles;
  const auto named = [&](const std::string& name) {
    const auto found = std::find_if(record.models.begin(), record.models.end(),
                                    [&](const ModelRow& row) { return row.name == name; });
    return found == record.models.end() ? nullptr : &*found;
  };
  const auto *base = named("base"), *tuned = named("tuned");
  for (size_t i = 0; tuned && i < std::min<size_t>(2, record.columns.size()); ++i) {
    std::string title = record.columns[i].title;
    if (!title.empty()) title[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(title[0])));
    tiles.push_back({title, score(record.columns[i], tuned->scores.at(i)),
                     base ? "base " + score(record.columns[i], base->scores.at(i)) : ""});
  }
  if (const auto& training = record.training) {
    if (training->held_out_after)
      tiles.push_back(
          {"Held-out loss", number(*training->held_out_after),
           training->held_out_before ? "before " + number(*training->held_out_before) : "nats per token"});
    const double seconds = std::max(training->seconds, 1e-9);
    tiles.push_back({"Training", duration(training->seconds),
                     fmt::format("{} steps, {:.0f} tokens/s", training->steps,
                                 static_cast<double>(training->tokens) / seconds)});
    tiles.push_back({"Peak memory",
                     fmt::format("{:.2f} GiB", static_cast<double>(training->peak_bytes) / kGiB),
                     "of the process, model file included"});
    tiles.push_back({"Start-up", fmt::format("{:.1f} s", training->startup_seconds),
                     "from the command to the first step"});
  }
  return tiles;
}

}  // namespace

Table results_table(const RunRecord& record) {
  Table table{"Results",
              fmt::format("KL: nats a token from the trained model to the reopened file, over held-out "
                          "answers; top-1: how often both choose the same token; rated: good where nobody "
                          "notices, visible, broken (docs/exports.md). "
                          "Tokens/s: greedy answers in the evaluation."),
              {"model"},
              {},
              false};
  for (const auto& column : record.columns) table.head.push_back(column.title);
  table.head.insert(table.head.end(), {"KL", "top-1", "rated", "size", "tokens/s"});
  for (const auto& model : record.models) {
    std::vector<std::string> row = {model.name};
    for (size_t i = 0; i < record.columns.size(); ++i)
      row.push_back(i < model.scores.size() ? score(record.columns[i], model.scores[i]) : "-");
    row.push_back(model.kl_nats ? number(*model.kl_nats) : "-");
    row.push_back(model.top1 ? percent(*model.top1) : "-");
    row.push_back(model.kl_nats && model.top1 ? std::string(fidelity_of(*model.kl_nats, *model.top1)) : "-");
    row.push_back(size(model.bytes));
    row.push_back(model.tokens_per_second ? fmt::format("{:.1f}", *model.tokens_per_second) : "-");
    table.rows.push_back(std::move(row));
  }
  return table;
}

Page run_page(const RunRecord& record) {
  Page page;
  page.title = record.title;
  page.about = record.about;
  page.facts = record.facts;
  page.tiles = tiles_of(record);
  page.tables.push_back(results_table(record));
  page.tables.insert(page.tables.end(), record.tables.begin(), record.tables.end());
  if (!record.gates.empty()) {
    Table gates{"Gate", "The run exits 1 when a gate has failed.", {"bound", "result"}, {}, false};
    for (const auto& [line, holds] : record.gates) gates.rows.push_back({line, holds ? "passed" : "failed"});
    page.tables.push_back(std::move(gates));
  }
  page.later_tables = record.details;
  if (!record.stages.empty())
    page.later_tables.push_back({"Stages", "", {"stage", "seconds", "result"}, record.stages, true});
  page.charts = charts_of(record.folder);
  page.charts.insert(page.charts.end(), record.charts.begin(), record.charts.end());
  page.samples = record.samples;
  page.notes = record.notes;
  page.recipe = record.recipe;
  page.recipe_sha256 = record.recipe_sha256;
  page.read = record.read;
  page.written = record.written;
  page.footer = record.footer;
  return page;
}

std::string table_text(const Table& table) {
  std::vector<size_t> widths;
  const auto width = [](const std::string& cell) {  // characters, not bytes
    return static_cast<size_t>(std::count_if(
        cell.begin(), cell.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
  };
  const auto measure = [&](const std::vector<std::string>& row) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  };
  measure(table.head);
  for (const auto& row : table.rows) measure(row);
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - width(row[i]), ' ');
      text += i == 0 ? row[i] + space : "  " + space + row[i];
    }
    while (text.ends_with(' ')) text.pop_back();
    text += '\n';
  };
  add(table.head);
  for (const auto& row : table.rows) add(row);
  return text;
}

}  // namespace retort
