// The matrix product and its packer: one thread, thread CPU time, SmolLM2's up-projection (1536 x 576), a
// different matrix each time so that weights come from memory. Packing in nanoseconds a thousand weights,
// forward and transposed; the product y = x W^T and dx = dy W as a share of the measured peak for some
// numbers of rows. Prints a table and, with --json FILE, the figures.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>

#include "ops/gemm.h"
#include "ops/scratch.h"
#include "ops/weight.h"
#include "random_f8.h"
#include "timing.h"

namespace {

using namespace retort;

// Median over repeats of the seconds that work(matrix) takes for each of the matrices.
template <class Work> double seconds_each(const std::vector<Weight>& weights, int64_t repeats, Work&& work) {
  std::vector<double> seconds;
  for (int64_t r = 0; r <= repeats; ++r) {
    seconds.push_back(seconds_of([&] {
                        for (const auto& weight : weights) work(weight);
                      }) /
                      static_cast<double>(weights.size()));
  }
  return median(std::move(seconds));
}

// GB/s of codes that one thread decodes, of matrices in memory and of one in cache.
void print_f8_decoding(int64_t repeats) {
  for (const auto& [rows, columns, where] :
       {std::tuple<int64_t, int64_t, const char*>{7168, 2048, "memory"}, {128, 2048, "cache"}}) {
    const std::vector<Weight> weights(1, random_f8(rows, columns));
    for (const auto type : {at::kBFloat16, at::kFloat}) {
      auto out =
          at::empty({32, columns}, at::TensorOptions(type));  // stays in cache, as it does in a product
      const auto seconds = seconds_each(weights, repeats, [&](const Weight& weight) {
        for (int64_t first = 0; first < rows; first += 32) widen_rows_into(weight, first, 32, out);
      });
      fmt::print("F8_E4M3 with scales from {} to {}: {:.1f} GB/s of codes\n", where,
                 type == at::kFloat ? "f32" : "bf16", static_cast<double>(rows * columns) / seconds / 1e9);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  CLI::App app{"the matrix product and its packer"};
  std::string json;
  int64_t repeats = 5, matrices = 48;
  app.add_option("--json", json, "write the figures to this file");
  app.add_option("--repeats", repeats, "measured rounds");
  app.add_option("--matrices", matrices, "of one type");
  CLI11_PARSE(app, count, arguments);
  at::set_num_threads(1);
  constexpr int64_t kOut = 1536, kIn = 576;
  const auto& kernel = gemm_kernel(Operand::bf16);
  const auto peak = gemm_speed(kernel).peak;
  const std::vector<int64_t> row_counts = {16, 64, 185, 512};
  fmt::print("{}, {:.0f} GFLOP/s\n{:<6} {:>16} {:>16}", kernel.name, peak, "type", "pack, ns/1000",
             "transposed");
  for (const auto rows : row_counts) fmt::print(" {:>14}", fmt::format("{} rows, % peak", rows));
  fmt::print("\n");
  std::string figures;
  for (const auto type : {WeightType::bf16, WeightType::f32, WeightType::q4_1, WeightType::q8_0,
                          WeightType::nf4, WeightType::int8_row, WeightType::f8_e4m3}) {
    std::vector<Weight> weights;
    for (int64_t i = 0; i < matrices; ++i)
      weights.push_back(
          type == WeightType::f8_e4m3
              ? random_f8(kOut, kIn)
              : convert_weight(dense_weight(at::randn({kOut, kIn}, at::TensorOptions(at::kFloat)) * 0.1),
                               type));
    const auto pack = [&](bool transposed) {
      const int64_t columns = 4 * kernel.width;  // whole blocks of every type
      auto* panels = scratch_bytes(Scratch::callers, panel_bytes(kernel, std::max(kOut, kIn), columns));
      return seconds_each(weights, repeats,
                          [&](const Weight& weight) {
                            const auto b = weight.operand(transposed);
                            for (int64_t first = 0; first < b.n(); first += columns)
                              pack_panels(kernel, b, first, std::min(columns, b.n() - first), panels);
                          }) *
             1e12 / static_cast<double>(kOut * kIn);
    };
    const double plain = pack(false), transposed = pack(true);
    fmt::print("{:<6} {:>16.0f} {:>16.0f}", type_info(type).name, plain, transposed);
    std::string shares;
    for (const auto rows : row_counts) {
      const auto x = at::randn({rows, kOut}).to(at::kBFloat16);
      auto y = at::empty({rows, kOut}, x.options());
      double share[2];
      for (const bool back : {false, true}) {
        const double seconds = seconds_each(weights, repeats, [&](const Weight& weight) {
          const GemmTerm term{{x.const_data_ptr(), kOut, Operand::bf16}, weight.operand(back)};
          gemm(kernel, {&term, 1}, rows, {y.mutable_data_ptr(), kOut, Operand::bf16});
        });
        share[back] = 2e-9 * static_cast<double>(rows * kOut * kIn) / seconds / peak;
      }
      fmt::print(" {:>14}", fmt::format("{:.0f} / {:.0f}", 100 * share[0], 100 * share[1]));
      shares += fmt::format("{}{{\"rows\": {}, \"forward\": {}, \"backward\": {}}}",
                            shares.empty() ? "" : ", ", rows, share[0], share[1]);
    }
    fmt::print("\n");
    figures += fmt::format(
        "{}{{\"type\": \"{}\", \"pack_ns_per_1000\": {}, \"transposed_ns_per_1000\": {}, \"shares\": [{}]}}",
        figures.empty() ? "" : ",\n  ", type_info(type).name, plain, transposed, shares);
  }
  // Gradients of matrices, out = dy^T x over so many rows: of the layer, and of an adapter's B (rank 16).
  fmt::print("{:<24} {:>8} {:>8}\n", "dy^T x, % peak", "weight", "adapter");
  for (const auto rows : row_counts) {
    const auto dy = at::randn({rows, kOut}).to(at::kBFloat16), x = at::randn({rows, kIn}).to(at::kBFloat16);
    auto out = at::empty({kOut, kIn}, at::TensorOptions(at::kFloat));
    double share[2];
    for (const bool adapter : {false, true}) {
      const auto narrow = adapter ? int64_t{16} : kIn;  // low^T dy is what the adapter's B gets
      std::vector<double> seconds;
      for (int64_t r = 0; r <= 4 * repeats; ++r) {
        const GemmRows wide{dy.const_data_ptr(), kOut, Operand::bf16},
            low{x.const_data_ptr(), kIn, Operand::bf16};
        seconds.push_back(seconds_of([&] {
          if (adapter)
            gemm_transposed(kernel, low, 16, wide, kOut, rows, {out.mutable_data_ptr(), kOut, Operand::f32});
          else
            gemm_transposed(kernel, wide, kOut, low, kIn, rows, {out.mutable_data_ptr(), kIn, Operand::f32});
        }));
      }
      share[adapter] = 2e-9 * static_cast<double>(rows * kOut * narrow) / median(seconds) / peak;
    }
    fmt::print("{:<24} {:>8.0f} {:>8.0f}\n", fmt::format("{} rows", rows), 100 * share[0], 100 * share[1]);
    figures += fmt::format(",\n  {{\"rows\": {}, \"weight_gradient\": {}, \"adapter_gradient\": {}}}", rows,
                           share[0], share[1]);
  }
  print_f8_decoding(4 * repeats);
  if (!json.empty()) std::ofstream(json) << "[" << figures << "]\n";
  return 0;
}
