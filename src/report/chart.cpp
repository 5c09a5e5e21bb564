#include "report/chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace retort {

namespace {

constexpr double kWidth = 560, kHeight = 230, kLeft = 58, kRight = 14, kTop = 12, kBottom = 30;
constexpr size_t kMostPoints = 500;

// Averages neighbours so that a long run stays a small page.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points) {
  if (points.size() <= kMostPoints) return points;
  std::vector<std::pair<double, double>> thin;
  for (size_t bucket = 0; bucket < kMostPoints; ++bucket) {
    const size_t begin = bucket * points.size() / kMostPoints,
                 end = (bucket + 1) * points.size() / kMostPoints;
    double x = 0, y = 0;
    for (size_t i = begin; i < end; ++i) x += points[i].first, y += points[i].second;
    thin.emplace_back(x / static_cast<double>(end - begin), y / static_cast<double>(end - begin));
  }
  return thin;
}

std::string tick_label(double value) {
  const double size = std::abs(value);
  if (value == 0) return "0";
  if (size >= 1e9) return fmt::format("{:g}G", value / 1e9);
  if (size >= 1e6) return fmt::format("{:g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:g}k", value / 1e3);
  if (size < 1e-3) return fmt::format("{:.3g}", value);
  return fmt::format("{:.6g}", value);
}

}  // namespace

std::vector<double> ticks(double low, double high, int count) {
  const double raw = (high - low) / count;
  if (!(raw > 0) || !std::isfinite(raw)) return {};
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= raw * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> values;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k)
    values.push_back(k * step);
  return values;
}

Series smoothed(const Series& series, double span) {
  Series smooth{series.name, {}, false};
  const double weight = 2 / (span + 1);
  double mean = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [x, y] : series.points) {
    if (std::isfinite(y)) mean = std::isfinite(mean) ? mean + weight * (y - mean) : y;
    smooth.points.emplace_back(x, mean);
  }
  return smooth;
}

std::string escape_html(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') escaped += "&amp;";
    else if (c == '<') escaped += "&lt;";
    else if (c == '>') escaped += "&gt;";
    else if (c == '"') escaped += "&quot;";
    else if (c == '\'') escaped += "&#39;";
    else if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') escaped += c;
    else escaped += "&#xFFFD;";
  }
  return escaped;
}

std::string chart_svg(const Chart& chart) {
  double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
  for (const auto& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      if (!std::isfinite(y)) continue;
      x_low = std::min(x_low, x), x_high = std::max(x_high, x);
      y_low = std::min(y_low, y), y_high = std::max(y_high, y);
    }
  }
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth, kHeight,
                                escape_html(chart.title));
  if (!(x_low <= x_high))
    return svg +
           fmt::format("<text class=\"tick\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">no values</text></svg>",
                       kWidth / 2, kHeight / 2);
  if (chart.from_zero) y_low = std::min(0.0, y_low);
  if (x_high == x_low) x_low -= 1, x_high += 1;
  if (y_high == y_low) {
    const double margin = y_low == 0 ? 1 : std::abs(y_low) * 0.1;
    y_high += margin;
    if (!chart.from_zero || y_low != 0) y_low -= margin;
  }
  const double space = (y_high - y_low) * 0.06;
  y_high += space;
  if (!(chart.from_zero && y_low == 0)) y_low -= space;
  const auto across = [&](double x) {
    return kLeft + (x - x_low) / (x_high - x_low) * (kWidth - kLeft - kRight);
  };
  const auto down = [&](double y) {
    return kHeight - kBottom - (y - y_low) / (y_high - y_low) * (kHeight - kTop - kBottom);
  };

  for (const double tick : ticks(y_low, y_high, 5)) {
    svg += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", kLeft,
                       kWidth - kRight, down(tick), down(tick));
    svg += fmt::format("<text class=\"tick\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", kLeft - 7,
                       down(tick) + 4, tick_label(tick));
  }
  for (const double tick : ticks(x_low, x_high, 6)) {
    svg += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                       across(tick), kHeight - kBottom + 17, tick_label(tick));
  }
  svg += fmt::format("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", kLeft, kWidth - kRight,
                     kHeight - kBottom, kHeight - kBottom);

  int colour = 0;
  for (const auto& series : chart.series) {
    const int mine = series.faint ? colour : colour++;
    std::string path;
    bool pen_down = false;
    size_t drawn = 0;
    std::pair<double, double> last{};
    for (const auto& [x, y] : thinned(series.points)) {
      if (!std::isfinite(y)) {
        pen_down = false;
        continue;
      }
      path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", across(x), down(y));
      pen_down = true;
      last = {x, y};
      ++drawn;
    }
    svg += fmt::format("<path class=\"line c{}{}\" d=\"{}\"/>", mine, series.faint ? " faint" : "", path);
    if (!series.faint && drawn > 0)
      svg += fmt::format("<circle class=\"dot c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", mine,
                         across(last.first), down(last.second));
  }
  return svg + "</svg>";
}

}  // namespace retort
