// A line chart as inline SVG, coloured by the page's style sheet.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace retort {

struct Series {
  std::string name;                               // shown in the legend when there are several
  std::vector<std::pair<double, double>> points;  // x ascending; values that are not finite leave a gap
  bool faint = false;                             // drawn behind, without a legend entry
};

struct Chart {
  std::string title, unit;
  std::vector<Series> series;
  bool from_zero = false;  // the y axis starts at 0
};

std::string chart_svg(const Chart& chart);

// Exponential moving average, for drawing only; `span`: 2 / (span + 1) is the weight of the newest value.
Series smoothed(const Series& series, double span);

// At most `count` round numbers (1, 2, 2.5 or 5 times a power of ten) that lie within [low, high].
std::vector<double> ticks(double low, double high, int count);

std::string escape_html(const std::string& text);

}  // namespace retort
