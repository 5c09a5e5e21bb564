// The head with its loss, ours against LibTorch's operations (logits written out, cross_entropy in fp32,
// autograd), forward and backward, one thread, thread CPU time, the two in turn: SmolLM2's vocabulary and
// width. "learns": the matrix has a gradient too. Also scores without gradient, and the share of the
// machine's measured peak. Prints a table and, with --json FILE, the figures.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>

#include "ops/gemm.h"
#include "ops/head.h"
#include "ops/memory.h"
#include "timing.h"

using namespace retort;

int main(int count, char** arguments) {
  CLI::App app{"the fused head against LibTorch's operations"};
  std::string json;
  int64_t repeats = 5;
  app.add_option("--json", json, "write the figures to this file");
  app.add_option("--repeats", repeats, "measured rounds");
  CLI11_PARSE(app, count, arguments);
  keep_freed_memory();
  at::set_num_threads(1);
  constexpr int64_t kVocabulary = 49152, kWidth = 576;
  std::string figures;
  fmt::print("{:>5} {:>5} {:>6} {:>12} {:>14} {:>7} {:>14} {:>10} {:>12}\n", "rows", "type", "head",
             "loss+dx, ms", "LibTorch, ms", "ratio", "share of peak", "score, ms", "LibTorch, MB");
  for (const auto type : {at::kBFloat16, at::kFloat})
    for (const auto& [stored, learns] :
         {std::pair{WeightType::bf16, false}, {WeightType::q8_0, false}, {WeightType::f32, true}})
      for (const int64_t rows : {16, 128, 512}) {
        const auto matrix = (at::randn({kVocabulary, kWidth}, at::TensorOptions(at::kFloat)) * 0.1);
        Head head;
        head.linear.weight = convert_weight(dense_weight(matrix), stored);
        if (learns) head.linear.weight.dense.requires_grad_();
        const auto dense = matrix.to(type).requires_grad_(learns);
        const auto hidden =
            at::randn({rows, kWidth}, at::TensorOptions(at::kFloat)).to(type).requires_grad_();
        std::vector<Target> targets;
        for (int64_t r = 0; r < rows; ++r)
          targets.push_back({static_cast<int32_t>(r), static_cast<int32_t>(r * 91 % kVocabulary), 1, 0});
        const auto labels = at::arange(rows, at::TensorOptions(at::kLong)) * 91 % kVocabulary;
        std::vector<Tensor> wanted{hidden}, theirs_wanted{hidden};
        if (learns) wanted.push_back(head.linear.weight.dense), theirs_wanted.push_back(dense);
        std::vector<double> ours, theirs, scores;
        for (int64_t r = 0; r < repeats + 1; ++r) {
          ours.push_back(seconds_of(
              [&] { torch::autograd::grad({cross_entropy(hidden, targets, head, Pass{}).nats}, wanted); }));
          theirs.push_back(seconds_of([&] {
            const auto loss = at::cross_entropy_loss(at::linear(hidden, dense).to(at::kFloat), labels,
                                                     std::nullopt, at::Reduction::Sum);
            torch::autograd::grad({loss}, theirs_wanted);
          }));
          scores.push_back(seconds_of([&] { score_targets(hidden, targets, head, Pass{}); }));
        }
        const double a = median(ours), b = median(theirs), c = median(scores);
        const auto& kernel = gemm_kernel(type == at::kFloat ? Operand::f32 : Operand::bf16);
        const double share = (learns ? 6e-9 : 4e-9) * static_cast<double>(rows * kVocabulary * kWidth) / a /
                             gemm_speed(kernel).peak;
        const auto held = learns ? std::string("learns") : std::string(type_info(stored).name);
        const auto* name = type == at::kFloat ? "f32" : "bf16";
        const double megabytes = static_cast<double>(rows * kVocabulary) * (type == at::kFloat ? 12 : 14) /
                                 1e6;  // logits, log-probabilities, their gradients
        fmt::print("{:>5} {:>5} {:>6} {:>12.1f} {:>14.1f} {:>7.2f} {:>13.0f}% {:>10.1f} {:>12.0f}\n", rows,
                   name, held, 1e3 * a, 1e3 * b, b / a, 100 * share, 1e3 * c, megabytes);
        figures += fmt::format(
            "{}{{\"rows\": {}, \"type\": \"{}\", \"head\": \"{}\", \"loss_ms\": {}, \"libtorch_ms\": {}, "
            "\"score_ms\": {}, \"share_of_peak\": {}}}",
            figures.empty() ? "" : ",\n  ", rows, name, held, 1e3 * a, 1e3 * b, 1e3 * c, share);
      }
  if (!json.empty()) std::ofstream(json) << "[" << figures << "]\n";
  return 0;
}
