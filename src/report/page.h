// report.html: one page that needs nothing else, from plain records.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "report/chart.h"
#include "report/manifest.h"

namespace retort {

struct Tile {
  std::string label, value, note;
};

struct Table {
  std::string title, note;
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;  // the first cell of a row is its name
  bool prose = false;                          // the last column holds sentences: to the left, wrapped
};

struct ShownSample {
  std::string prompt, expected, before, after;
  bool right_before = false, right_after = false;
};

struct Page {
  std::string title, about;
  std::vector<std::pair<std::string, std::string>> facts;  // base model, data, adapter, ...
  std::vector<Tile> tiles;
  std::vector<Table> tables;
  std::vector<Chart> charts;
  std::vector<ShownSample> samples;
  std::vector<Table> later_tables;  // below charts and samples
  std::vector<std::string> notes;   // what to know before trusting the numbers
  std::string recipe;               // resolved YAML
  std::string recipe_sha256;
  std::vector<FileRecord> read, written;
  std::string footer;
};

std::string page_html(const Page& page);

}  // namespace retort
