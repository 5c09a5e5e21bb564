#include <array>

#include "kernels/decode_formats.h"
#include "kernels/decode_job.h"
#include "quant/dynamic8.h"

namespace retort {
namespace {

template <class Value> std::array<float, 16> of_codes(Value value) {
  std::array<float, 16> values{};
  for (int code = 0; code < 16; ++code) values[static_cast<size_t>(code)] = value(code);
  return values;
}

std::span<const std::byte> nf4_dq_book() {
  static const auto values = [] {
    std::array<float, Nf4DqRows::kEntries> all{};
    for (size_t code = 0; code < 16; ++code) all[code] = nf4_value(static_cast<int>(code));
    const auto maxima = dynamic8_values(Dynamic8::with_sign);
    for (size_t code = 0; code < maxima.size(); ++code) all[16 + code] = maxima[code];
    return all;
  }();
  return std::as_bytes(std::span(values));
}

}  // namespace

bool has_decode_kernel(WeightType type) {
  const auto nothing = [](auto) {};
  return with_block_format(type, nothing) || with_row_format(type, nothing);
}

std::span<const std::byte> decode_book(WeightType type) {
  static const auto nf4 = of_codes(nf4_value), e2m1 = of_codes(doubled_e2m1), iq4 = of_codes(iq4_level);
  switch (type) {
    case WeightType::nf4: return std::as_bytes(std::span(nf4));
    case WeightType::nf4_dq: return nf4_dq_book();
    case WeightType::mxfp4:
    case WeightType::nvfp4: return std::as_bytes(std::span(e2m1));
    case WeightType::iq4_nl:
    case WeightType::iq4_xs: return std::as_bytes(std::span(iq4));
    case WeightType::iq1_s:
    case WeightType::iq1_m: return std::as_bytes(std::span(kIq1Book));
    case WeightType::iq2_xxs: return std::as_bytes(std::span(kIq2XxsBook));
    case WeightType::iq2_xs: return std::as_bytes(std::span(kIq2XsBook));
    case WeightType::iq2_s: return std::as_bytes(std::span(kIq2SBook));
    case WeightType::iq3_xxs: return std::as_bytes(std::span(kIq3XxsBook));
    case WeightType::iq3_s: return std::as_bytes(std::span(kIq3SBook));
    default: return {};
  }
}

}  // namespace retort
