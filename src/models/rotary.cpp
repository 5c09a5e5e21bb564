#include "models/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace retort {
namespace {

double yarn_correction(double rotations, double width, double theta, double context) {
  return width * std::log(context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

// The share of each frequency that YaRN leaves as it is: 1 for fast ones, 0 for slow ones.
std::vector<double> yarn_kept(const RopeConfig& rope, int64_t width, int64_t context) {
  const auto trained = static_cast<double>(rope.original_context > 0 ? rope.original_context : context);
  double low = yarn_correction(rope.beta_fast, static_cast<double>(width), rope.theta, trained);
  double high = yarn_correction(rope.beta_slow, static_cast<double>(width), rope.theta, trained);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(width - 1));
  if (low == high) high += 0.001;
  std::vector<double> kept;
  for (int64_t i = 0; i < width / 2; ++i)
    kept.push_back(1 - std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
  return kept;
}

double llama3_scaled(const RopeConfig& rope, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency,
               trained = static_cast<double>(rope.original_context);
  if (wavelength < trained / rope.high_frequency_factor) return frequency;
  if (wavelength > trained / rope.low_frequency_factor) return frequency / rope.factor;
  const double t = (trained / wavelength - rope.low_frequency_factor) /
                   (rope.high_frequency_factor - rope.low_frequency_factor);
  return (1 - t) * frequency / rope.factor + t * frequency;
}

bool is_long(const RopeConfig& rope, int64_t length) {
  return rope.scaling == RopeScaling::longrope && length > rope.original_context;
}

}  // namespace

int64_t rotated_width(const RopeConfig& rope, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial);  // rounded down, as transformers
}

std::vector<float> rotary_frequencies(const RopeConfig& rope, int64_t head_dim, int64_t context,
                                      int64_t length) {
  const auto width = rotated_width(rope, head_dim);
  const auto half = static_cast<size_t>(width / 2);
  const auto& stretch = is_long(rope, length) ? rope.long_factor : rope.short_factor;
  const auto need = [&](const std::vector<double>& list, const char* what) {
    if (list.size() != half)
      throw FormatError(fmt::format("{} has {} values; the rotation of {} dimensions needs {}", what,
                                    list.size(), width, half));
  };
  if (rope.scaling == RopeScaling::longrope) need(stretch, "rope_scaling: long_factor or short_factor");
  if (!rope.frequency_divisors.empty()) need(rope.frequency_divisors, "rope_freqs.weight");
  const auto kept =
      rope.scaling == RopeScaling::yarn ? yarn_kept(rope, width, context) : std::vector<double>();
  std::vector<float> frequencies(half);
  for (size_t i = 0; i < half; ++i) {
    double f = 1 / std::pow(rope.theta, 2 * static_cast<double>(i) / static_cast<double>(width));
    if (!rope.frequency_divisors.empty()) {  // the file's own result of llama3 scaling
      f /= rope.frequency_divisors[i];
    } else {
      switch (rope.scaling) {
        case RopeScaling::none:
        case RopeScaling::dynamic: break;
        case RopeScaling::linear: f /= rope.factor; break;
        case RopeScaling::llama3: f = llama3_scaled(rope, f); break;
        case RopeScaling::yarn: f = f / rope.factor * (1 - kept[i]) + f * kept[i]; break;
        case RopeScaling::longrope: f /= stretch[i]; break;
      }
    }
    frequencies[i] = static_cast<float>(f);
  }
  return frequencies;
}

double rotary_attention_factor(const RopeConfig& rope, int64_t context) {
  if (rope.attention_factor > 0) return rope.attention_factor;
  if (rope.scaling == RopeScaling::yarn) return rope.factor > 1 ? 0.1 * std::log(rope.factor) + 1 : 1;
  if (rope.scaling == RopeScaling::longrope) {
    const double trained = static_cast<double>(rope.original_context);
    const double factor = rope.factor > 1 ? rope.factor : static_cast<double>(context) / trained;
    return factor > 1 ? std::sqrt(1 + std::log(factor) / std::log(trained)) : 1;
  }
  return 1;
}

Rotary::Rotary(RopeConfig rope, int64_t head_dim, int64_t context)
    : rope_(std::move(rope)), head_dim_(head_dim), context_(context) {}

std::shared_ptr<const RotaryTable> Rotary::table(const Tensor& positions) const {
  const auto* position = positions.const_data_ptr<int64_t>();
  const int64_t length =
      positions.numel() == 0 ? 0 : *std::max_element(position, position + positions.numel()) + 1;
  if (rope_.scaling == RopeScaling::dynamic && length > context_)
    throw FormatError(fmt::format(
        "a text has {} tokens: from token {} on this model's rotation is that of the longest text "
        "met so far (rope_type: dynamic), which is not computed here; set data.sample_tokens to {} or "
        "less",
        length, context_ + 1, context_));
  const std::lock_guard lock(mutex_);
  auto& known = tables_[is_long(rope_, length) ? 1 : 0];
  if (known && known->positions >= length) return known;
  auto table = std::make_shared<RotaryTable>();
  table->half = rotated_width(rope_, head_dim_) / 2;
  table->positions = 512;
  while (table->positions < length) table->positions *= 2;
  const auto frequencies = rotary_frequencies(rope_, head_dim_, context_, length);
  const double factor = rotary_attention_factor(rope_, context_);
  table->cosine.resize(static_cast<size_t>(table->positions * table->half));
  table->sine.resize(table->cosine.size());
  for (int64_t p = 0; p < table->positions; ++p) {
    for (int64_t i = 0; i < table->half; ++i) {
      const float angle =
          static_cast<float>(p) * frequencies[static_cast<size_t>(i)];  // fp32, as the reference
      table->cosine[static_cast<size_t>(p * table->half + i)] =
          static_cast<float>(std::cos(static_cast<double>(angle)) * factor);
      table->sine[static_cast<size_t>(p * table->half + i)] =
          static_cast<float>(std::sin(static_cast<double>(angle)) * factor);
    }
  }
  return known = table;
}

}  // namespace retort
