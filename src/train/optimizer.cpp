#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/profile.h"
#include "ops/workers.h"
#include "quant/dynamic8.h"
#include "train/update_loops.h"

namespace retort {
namespace {

constexpr int64_t kChunk = 1 << 16;  // elements; whole 8-bit blocks
constexpr int64_t kSmallest8Bit =
    4096;  // smaller tensors keep fp32 moments, as bitsandbytes' do: they weigh nothing
constexpr int64_t kWorthThreads = 1 << 18;  // elements: below, starting threads takes longer than the work

// Calls work(i) for i in [0, count); each thread takes a run of neighbours, and its share of what the whole
// is in a profile.
void in_runs(const Work& whole, int64_t threads, int64_t count, const std::function<void(int64_t)>& work) {
  const auto runs = std::max<int64_t>(1, std::min(threads, count));
  const auto run = [&](int64_t worker) {
    const Span span({whole.name, whole.kind, whole.flop / static_cast<double>(runs),
                     whole.bytes / static_cast<double>(runs)});
    for (int64_t i = count * worker / runs; i < count * (worker + 1) / runs; ++i) work(i);
  };
  if (runs == 1) run(0);
  else run_workers(threads, runs, run);
}

}  // namespace

Optimizer::Optimizer(const OptimizerSpec& spec, const std::vector<NamedTensor>& trainables, int64_t threads)
    : spec_(spec), threads_(threads) {
  if (spec.betas.size() != 2)
    throw RecipeError(fmt::format("train.optimizer.betas: expected 2 numbers, found {}", spec.betas.size()));
  int64_t total = 0;
  for (const auto& [name, tensor, place] : trainables) {
    if (tensor->scalar_type() != at::kFloat || !tensor->is_contiguous())
      throw std::logic_error("trainables are contiguous fp32 tensors: " + name);
    Slot slot;
    slot.name = name;
    slot.weights = tensor;
    slot.count = tensor->numel();
    slot.decayed = tensor->dim() >= 2;
    slot.rate_ratio = name.ends_with(".lora_B.weight") ? spec.lora_plus_ratio : 1;
    slot.eight_bit = spec.kind == "adamw8bit" && slot.count >= kSmallest8Bit;
    const auto size = static_cast<size_t>(slot.count);
    if (slot.eight_bit) {
      slot.first_codes.assign(size, dynamic8_code(Dynamic8::with_sign, 0));
      slot.second_codes.assign(size, dynamic8_code(Dynamic8::without_sign, 0));
      slot.first.assign(static_cast<size_t>(dynamic8_blocks(slot.count)), 0);
      slot.second = slot.first;
    } else {
      const bool adam = spec.kind == "adamw" || spec.kind == "adamw8bit";
      if (adam || spec.kind == "lion" || spec.momentum > 0) slot.first.assign(size, 0);
      if (adam) slot.second.assign(size, 0);
    }
    for (int64_t begin = 0; begin < slot.count; begin += kChunk)
      chunks_.push_back({slots_.size(), begin, std::min(kChunk, slot.count - begin)});
    slots_.push_back(std::move(slot));
    total += tensor->numel();
  }
  if (total < kWorthThreads) threads_ = 1;
}

bool Optimizer::update_chunk(const Chunk& chunk, const float* sums, double share, double learning_rate) {
  auto& slot = slots_[chunk.slot];
  const double rate = learning_rate * slot.rate_ratio;
  const auto steps = static_cast<double>(updates);
  float* weights = slot.weights->mutable_data_ptr<float>() + chunk.begin;
  const auto at = [&](std::vector<float>& state) {
    return state.empty() ? nullptr : state.data() + chunk.begin;
  };
  UpdateScalars s;
  s.share = static_cast<float>(share);
  s.keep = static_cast<float>(slot.decayed ? 1 - rate * spec_.weight_decay : 1);
  s.rate = static_cast<float>(rate);
  s.beta_1 = static_cast<float>(spec_.betas[0]);
  s.beta_2 = static_cast<float>(spec_.betas[1]);
  s.rest_1 = static_cast<float>(1 - spec_.betas[0]);
  s.rest_2 = static_cast<float>(1 - spec_.betas[1]);
  if (spec_.kind == "lion") return lion_update(weights, sums, at(slot.first), chunk.count, s);
  if (spec_.kind == "sgd") {
    s.beta_1 = static_cast<float>(spec_.momentum);
    s.first = updates == 1;
    return sgd_update(weights, sums, at(slot.first), chunk.count, s);
  }
  s.rate = static_cast<float>(rate / (1 - std::pow(spec_.betas[0], steps)));
  s.second_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(spec_.betas[1], steps)));
  s.epsilon = static_cast<float>(spec_.epsilon);
  if (!slot.eight_bit) return adamw_update(weights, sums, at(slot.first), at(slot.second), chunk.count, s);
  const auto block = chunk.begin / kDynamic8Block;
  return adamw8bit_update(weights, sums, slot.first_codes.data() + chunk.begin, slot.first.data() + block,
                          slot.second_codes.data() + chunk.begin, slot.second.data() + block, chunk.count, s);
}

bool Optimizer::update(const std::vector<Tensor>& sums, double share, double learning_rate) {
  double elements = 0;
  for (const auto& slot : slots_) elements += static_cast<double>(slot.count);
  const double bytes =
      elements * 4 *
      (spec_.kind == "adamw"       ? 7
       : spec_.kind == "adamw8bit" ? 4
                                   : 5);  // weights and states read and written, the sum read
  static const std::vector<float> no_gradient(kChunk, 0);
  ++updates;
  std::vector<char> finite(chunks_.size());
  in_runs({"optimizer", "step", 0, bytes}, threads_, static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
    const auto& chunk = chunks_[static_cast<size_t>(i)];
    const auto& sum = sums[chunk.slot];
    finite[static_cast<size_t>(i)] =
        update_chunk(chunk, sum.defined() ? sum.const_data_ptr<float>() + chunk.begin : no_gradient.data(),
                     share, learning_rate);
  });
  for (auto& slot : slots_)
    slot.weights->unsafeGetTensorImpl()->bump_version();  // whoever keeps something made from it can tell
  return std::all_of(finite.begin(), finite.end(), [](char each) { return each != 0; });
}

std::vector<NamedBytes> Optimizer::states() {
  std::vector<NamedBytes> all;
  const auto add = [&](const std::string& name, WeightType type, std::vector<int64_t> shape, auto& values) {
    if (!values.empty())
      all.push_back({name, type, std::move(shape), std::as_writable_bytes(std::span(values))});
  };
  for (auto& slot : slots_) {
    const auto shape = slot.weights->sizes().vec();
    const std::vector<int64_t> blocks{static_cast<int64_t>(slot.first.size())};
    add("moment_1." + slot.name, WeightType::u8, shape, slot.first_codes);
    add("moment_2." + slot.name, WeightType::u8, shape, slot.second_codes);
    add((slot.eight_bit ? "absmax_1." : "moment_1.") + slot.name, WeightType::f32,
        slot.eight_bit ? blocks : shape, slot.first);
    add((slot.eight_bit ? "absmax_2." : "moment_2.") + slot.name, WeightType::f32,
        slot.eight_bit ? blocks : shape, slot.second);
  }
  return all;
}

double gradient_norm(const std::vector<Tensor>& sums, int64_t threads) {
  struct Stretch {
    const float* values;
    int64_t count;
    double squares = 0;
  };
  std::vector<Stretch> runs;
  int64_t total = 0;
  for (const auto& sum : sums) {
    if (!sum.defined()) continue;
    total += sum.numel();
    for (int64_t begin = 0; begin < sum.numel(); begin += kChunk)
      runs.push_back({sum.const_data_ptr<float>() + begin, std::min(kChunk, sum.numel() - begin)});
  }
  in_runs({"gradient norm", "step", 2.0 * static_cast<double>(total), 4.0 * static_cast<double>(total)},
          total < kWorthThreads ? 1 : threads, static_cast<int64_t>(runs.size()), [&](int64_t i) {
            auto& run = runs[static_cast<size_t>(i)];
            run.squares = sum_of_squares(run.values, run.count);
          });
  double squares = 0;
  for (const auto& run : runs) squares += run.squares;
  return std::sqrt(squares);
}

double clip_share(double norm, double limit) { return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1; }

}  // namespace retort
