// Attention over texts packed into one row, ours against LibTorch's scaled_dot_product_attention called once
// a text (its flash kernel for CPUs, keys repeated for grouped queries), forward and backward, one thread,
// thread CPU time, the two in turn. Prints a table and, with --json FILE, the figures.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>

#include "ops/attend.h"
#include "timing.h"

namespace {

using namespace retort;

struct Times {
  std::vector<double> forward, backward;
  template <class Forward>
  void add(const std::vector<Tensor>& inputs, const Tensor& dy, Forward&& attention) {
    const double start = thread_seconds();
    const auto y = attention();
    const double middle = thread_seconds();
    torch::autograd::grad({y}, inputs, {dy});
    forward.push_back(middle - start);
    backward.push_back(thread_seconds() - middle);
  }
};

}  // namespace

int main(int count, char** arguments) {
  CLI::App app{"attention kernels against LibTorch's"};
  std::string json;
  int64_t repeats = 7;
  app.add_option("--json", json, "write the figures to this file");
  app.add_option("--repeats", repeats, "measured rounds");
  CLI11_PARSE(app, count, arguments);
  at::set_num_threads(1);
  constexpr int64_t kHeads = 9, kKvHeads = 3, kWidth = 64;  // SmolLM2-135M
  std::string rows;
  fmt::print("{:>16} {:>5} {:>22} {:>22} {:>14}\n", "texts", "type", "ours fwd + bwd, ms",
             "LibTorch fwd + bwd, ms", "ratio");
  for (const auto type : {at::kBFloat16, at::kFloat})
    for (const auto& [texts, length] :
         std::vector<std::pair<int64_t, int64_t>>{{64, 20}, {24, 45}, {8, 128}, {2, 512}, {1, 2048}}) {
      Forest forest;
      for (int64_t t = 0; t < texts; ++t)
        forest.add_segment(std::vector<int32_t>(static_cast<size_t>(length), 1));
      const auto n = texts * length;
      const auto pass = make_pass(forest, type);
      const auto values = [&](int64_t heads) {
        return at::randn({n, heads, kWidth}, at::TensorOptions(at::kFloat)).to(type).requires_grad_();
      };
      const auto q = values(kHeads), k = values(kKvHeads), v = values(kKvHeads);
      const auto dy = at::randn({n, kHeads * kWidth}, at::TensorOptions(at::kFloat)).to(type);
      Times ours, theirs;
      for (int64_t r = 0; r < repeats + 1; ++r) {
        ours.add({q, k, v}, dy, [&] { return attend(q, k, v, {}, pass); });
        theirs.add({q, k, v}, dy, [&] {
          std::vector<Tensor> parts;
          for (int64_t t = 0; t < texts; ++t) {
            const auto part = [&](const Tensor& x, int64_t repeat) {
              return x.narrow(0, t * length, length)
                  .repeat_interleave(repeat, 1)
                  .transpose(0, 1)
                  .unsqueeze(0);
            };
            parts.push_back(
                at::scaled_dot_product_attention(part(q, 1), part(k, 3), part(v, 3), std::nullopt, 0, true)
                    .squeeze(0)
                    .transpose(0, 1)
                    .reshape({length, -1}));
          }
          return at::cat(parts);
        });
      }
      const double a = median(ours.forward), b = median(ours.backward), c = median(theirs.forward),
                   d = median(theirs.backward);
      const auto* name = type == at::kFloat ? "f32" : "bf16";
      fmt::print("{:>9} x {:>4} {:>5} {:>10.2f} + {:>8.2f} {:>11.2f} + {:>8.2f} {:>6.2f} {:>7.2f}\n", texts,
                 length, name, 1e3 * a, 1e3 * b, 1e3 * c, 1e3 * d, c / a, d / b);
      rows += fmt::format(
          "{}{{\"texts\": {}, \"length\": {}, \"type\": \"{}\", \"forward_ms\": {}, \"backward_ms\": {}, "
          "\"libtorch_forward_ms\": {}, \"libtorch_backward_ms\": {}}}",
          rows.empty() ? "" : ",\n  ", texts, length, name, 1e3 * a, 1e3 * b, 1e3 * c, 1e3 * d);
    }
  if (!json.empty()) std::ofstream(json) << "[" << rows << "]\n";
  return 0;
}
