// F8_E4M3 with a scale for each block of 128 by 128, in the shapes of DeepSeek's experts: how fast one thread
// decodes it, on each path of this machine and as products do, and its products beside those of the same
// matrix in bf16. One thread, thread CPU time; what is compared runs in turns, round by round, and the table
// gives medians. Prints tables and writes them to --json (build/bench/scaled_f8.json).
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <numeric>

#include "base/files.h"
#include "base/json.h"
#include "ops/memory.h"
#include "ops/weight.h"
#include "quant/paths.h"
#include "random_f8.h"
#include "timing.h"

namespace {

using namespace retort;

constexpr int64_t kBlock = 128;

// Times of some works that are done in turns, so that what else the machine does hits all of them alike.
template <class Works> std::vector<std::vector<double>> in_turns(int64_t rounds, const Works& works) {
  std::vector<std::vector<double>> seconds(works.size());
  for (int64_t round = -1; round < rounds; ++round)
    for (size_t i = 0; i < works.size(); ++i) {
      const auto taken = seconds_of(works[i]);
      if (round >= 0) seconds[i].push_back(taken);
    }
  return seconds;
}

// Of each round, the first over the second.
double median_ratio(const std::vector<double>& first, const std::vector<double>& second) {
  std::vector<double> ratios;
  for (size_t i = 0; i < first.size(); ++i) ratios.push_back(first[i] / second[i]);
  return median(ratios);
}

template <class Out>
using Rectangle = void (*)(const uint8_t*, int64_t, float, Out*, int64_t, int64_t, int64_t);

// A rectangle in cache, decoded again and again: what the instructions alone take.
template <class Out> std::function<void()> in_cache(Rectangle<Out> rectangle, int64_t times) {
  constexpr int64_t kRows = 32;
  auto codes = std::make_shared<std::vector<uint8_t>>(kRows * kBlock);
  for (size_t i = 0; i < codes->size(); ++i) (*codes)[i] = static_cast<uint8_t>(i * 37 % 127);
  auto out = std::make_shared<std::vector<Out>>(codes->size());
  return [=] {
    for (int64_t t = 0; t < times; ++t)
      rectangle(codes->data(), kBlock, 1e-3f * static_cast<float>(t % 7), out->data(), kBlock, kRows, kBlock);
  };
}

Json decoding(int64_t rounds) {
  // More than any cache holds: 8 matrices of 14 MiB.
  constexpr int64_t kRows = 2048, kColumns = 7168, kAtOnce = 16, kPiece = 512, kTimes = 4096;
  std::vector<Weight> weights;
  for (int i = 0; i < 8; ++i) weights.push_back(random_f8(kRows, kColumns));
  std::vector<std::string> names;
  std::vector<std::function<void()>> works;
  std::vector<double> codes;
  const auto add = [&](std::string name, double count, std::function<void()> work) {
    names.push_back(std::move(name)), codes.push_back(count), works.push_back(std::move(work));
  };
  constexpr double kCached = static_cast<double>(kTimes) * 32 * kBlock;
  for (const auto* path : paths_on_this_machine()) {
    add(fmt::format("{}, in cache, to bf16", path->name), kCached,
        in_cache<uint16_t>(path->f8_to_bf16, kTimes));
    add(fmt::format("{}, in cache, to f32", path->name), kCached, in_cache<float>(path->f8_to_float, kTimes));
  }
  add("definition, in cache, to bf16", kCached / 16, in_cache<uint16_t>(f8_rectangle_bf16, kTimes / 16));
  add("definition, in cache, to f32", kCached / 16, in_cache<float>(f8_rectangle, kTimes / 16));
  uint64_t seen = 0;
  add("bytes read from memory alone", static_cast<double>(weights.size() * kRows * kColumns), [&] {
    for (const auto& weight : weights) {
      const auto* words = reinterpret_cast<const uint64_t*>(weight.blocks.data());
      seen += std::accumulate(words, words + weight.blocks.size() / 8, uint64_t{0});
    }
  });
  // In the pieces of a product: 16 rows, 512 columns, the front of the next ones on its way.
  const auto pieces = [&](auto&& decode) {
    for (const auto& weight : weights)
      for (int64_t row = 0; row < kRows; row += kAtOnce)
        for (int64_t column = 0; column < kColumns; column += kPiece) {
          const auto next =
              column + kPiece < kColumns ? row * kColumns + column + kPiece : (row + kAtOnce) * kColumns;
          for (int64_t r = 0; r < kAtOnce; ++r)
            for (int64_t line = 0; line < kF8Ahead; line += 64)
              __builtin_prefetch(weight.blocks.data() + next + r * kColumns + line);
          decode(weight, row, column);
        }
  };
  std::vector<uint16_t> words(kAtOnce * kPiece);
  std::vector<float> floats(kAtOnce * kPiece);
  const auto all = static_cast<double>(weights.size() * kRows * kColumns);
  add("from memory to bf16", all, [&] {
    pieces([&](const Weight& weight, int64_t row, int64_t column) {
      decode_scaled_f8_bf16(weight.blocks.data(), kColumns, weight.grid(), row, kAtOnce, column, kPiece,
                            words.data());
    });
  });
  add("from memory to f32", all, [&] {
    pieces([&](const Weight& weight, int64_t row, int64_t column) {
      decode_scaled_f8(weight.blocks.data(), kColumns, weight.grid(), row, kAtOnce, column, kPiece,
                       floats.data());
    });
  });
  const auto seconds = in_turns(rounds, works);
  Json figures = Json::object();
  fmt::print("{:<34} {:>14}\n", "decoding", "GB/s of codes");
  for (size_t i = 0; i < names.size(); ++i) {
    const auto speed = codes[i] / median(seconds[i]) / 1e9;
    fmt::print("{:<34} {:>14.2f}\n", names[i], speed);
    figures[names[i]] = speed;
  }
  if (seen == 0) fmt::print("\n");  // the sums are wanted
  return figures;
}

Json products(int64_t rounds, const std::vector<int64_t>& row_counts) {
  Json figures = Json::array();
  for (const auto type : {at::kBFloat16, at::kFloat}) {
    const auto operand = type == at::kFloat ? Operand::f32 : Operand::bf16;
    const auto& kernel = gemm_kernel(operand);
    fmt::print(
        "\nproducts with activations of {} ({}, {:.0f} GFLOP/s at most)\n{:<14} {:>5} {:>10} {:>10} {:>10} "
        "{:>10} {:>10}\n",
        type == at::kFloat ? "f32" : "bf16", kernel.name, gemm_speed(kernel).peak, "matrix", "rows",
        "direction", "bf16", "F8_E4M3", "decoded f32", "F8 / bf16");
    for (const auto& [out_rows, in] : {std::pair<int64_t, int64_t>{2048, 7168}, {7168, 2048}}) {
      const auto f8 = random_f8(out_rows, in);
      const auto bf16 = convert_weight(f8, WeightType::bf16), f32 = convert_weight(f8, WeightType::f32);
      for (const auto m : row_counts)
        for (const bool back : {false, true}) {
          const auto from = back ? out_rows : in, to = back ? in : out_rows;
          const auto x = at::randn({m, from}).to(type);
          auto y = at::empty({m, to}, x.options());
          std::vector<std::function<void()>> works;
          for (const auto* weight : {&bf16, &f8, &f32})
            works.push_back([&, weight] {
              const GemmTerm term{{x.const_data_ptr(), from, operand}, weight->operand(back)};
              gemm(kernel, {&term, 1}, m, {y.mutable_data_ptr(), to, operand});
            });
          const auto seconds = in_turns(rounds, works);
          const auto flops = 2e-9 * static_cast<double>(m * from * to);
          const auto ratio = median_ratio(seconds[0], seconds[1]);
          const std::string direction = back ? "dx" : "y";
          fmt::print("{:<14} {:>5} {:>10} {:>10.0f} {:>10.0f} {:>10.0f} {:>10.3f}\n",
                     fmt::format("{} x {}", out_rows, in), m, direction, flops / median(seconds[0]),
                     flops / median(seconds[1]), flops / median(seconds[2]), ratio);
          figures.push_back({{"activations", type == at::kFloat ? "f32" : "bf16"},
                             {"matrix", {out_rows, in}},
                             {"rows", m},
                             {"direction", direction},
                             {"bf16_gflops", flops / median(seconds[0])},
                             {"f8_gflops", flops / median(seconds[1])},
                             {"f8_over_bf16", ratio}});
        }
    }
  }
  return figures;
}

}  // namespace

int main(int count, char** arguments) {
  CLI::App app{"F8_E4M3 with scales: decoding, and products beside those of bf16"};
  std::string json = "build/bench/scaled_f8.json";
  int64_t rounds = 9;
  std::vector<int64_t> row_counts = {16, 64, 128, 512};
  app.add_option("--json", json, "write the figures to this file");
  app.add_option("--rounds", rounds, "measured rounds");
  app.add_option("--rows", row_counts, "of activations");
  CLI11_PARSE(app, count, arguments);
  keep_freed_memory();
  at::set_num_threads(1);
  Json figures;
  figures["decoding_gb_s"] = decoding(rounds);
  figures["products"] = products(rounds, row_counts);
  make_folder(std::filesystem::path(json).parent_path());
  write_text(json, figures.dump(1) + "\n");
  return 0;
}
