// What a run came to, as plain records: the table on the terminal and the report page are made from this.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "report/page.h"

namespace retort {

// A number that the tasks measured, for one column of the table.
struct ScoreColumn {
  std::string title;   // "exact match"
  bool share = false;  // shown in percent
};

struct ModelRow {
  std::string name;                           // "base", "tuned", "export/model-Q4_K_M.gguf"
  std::vector<std::optional<double>> scores;  // one a column
  std::optional<uint64_t> bytes;              // on disk
  std::optional<double> tokens_per_second;    // of generation, in the evaluation
  std::optional<double> kl_nats, top1;        // against the trained model
};

struct TrainingNumbers {
  int64_t steps = 0, samples = 0, held_out = 0, tokens = 0, rows = 0;
  double seconds = 0;
  double startup_seconds = 0;  // from the command to the first step, base evaluation not counted
  uint64_t peak_bytes = 0;
  std::optional<double> held_out_before, held_out_after;  // nats per token
};

struct RunRecord {
  std::string title, about;
  std::filesystem::path folder;  // metrics.jsonl and speed.jsonl are read from here
  std::vector<std::pair<std::string, std::string>> facts;
  std::vector<ScoreColumn> columns;
  std::vector<ModelRow> models;
  std::optional<TrainingNumbers> training;
  std::vector<std::vector<std::string>> stages;     // name, seconds, what it gave
  std::vector<std::pair<std::string, bool>> gates;  // a line each, and whether it passed
  std::vector<Table> tables;                        // further ones, after the models
  std::vector<Table> details;                       // on the page alone, below charts and samples
  std::vector<Chart> charts;                        // further ones, after those of metrics.jsonl
  std::vector<ShownSample> samples;
  std::vector<std::string> notes;
  std::string recipe, recipe_sha256, footer;
  std::vector<FileRecord> read, written;
};

// Base, tuned and exported models side by side; cells as text, the first row is the head.
Table results_table(const RunRecord& record);
Page run_page(const RunRecord& record);

// A table in columns, for the terminal: names to the left, numbers to the right, two spaces apart.
std::string table_text(const Table& table);

}  // namespace retort
