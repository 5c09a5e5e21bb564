#include "plan/fit_memory.h"

#include "base/byte_size.h"
#include "base/error.h"
#include "ops/workers.h"

namespace retort {

namespace {

constexpr int64_t kSmallestRows =
    64;  // of a micro-batch: below, packing matrices takes longer than multiplying
constexpr double kRecomputed = 1.33;  // forward is a third of a step
constexpr double kPackingRows = 6;    // packing a matrix costs as much as so many rows of its product

// Relative, of one step: rows after sharing, what each forest costs besides, threads that wait.
double time_of(const RunWork& work, const TrainSpec& spec) {
  const auto rows = std::max(1.0, work.rows_per_step), forests = std::max(1.0, work.forests_per_step);
  // Where train.batch.parts cuts a step, threads beyond its forests have nothing to do.
  const auto abreast = static_cast<double>(spec.batch.parts > 0 ? work.threads : spec.threads);
  return (rows + kPackingRows * forests) / abreast * (spec.recompute ? kRecomputed : 1);
}

std::vector<int64_t> halves(int64_t largest, int64_t smallest) {
  std::vector<int64_t> all = {largest};
  while (all.back() / 2 >= smallest) all.push_back(all.back() / 2);
  return all;
}

}  // namespace

void apply(const MemoryChoice& choice, TrainSpec& spec) {
  spec.batch.pass_tokens = choice.row_tokens;
  spec.threads = choice.threads;
  spec.recompute = choice.recompute;
}

std::string describe(const MemoryChoice& choice) {
  return fmt::format("train.batch.pass_tokens {}, {}, {}: about {} at most", choice.row_tokens,
                     choice.threads == 1 ? "1 thread" : fmt::format("{} threads", choice.threads),
                     choice.recompute ? "layers recomputed" : "nothing recomputed", bytes(choice.peak));
}

MemoryChoice choose_for_memory(const Recipe& recipe, const Model& model, at::ScalarType compute,
                               const Dataset& dataset) {
  const auto budget = byte_size(recipe.train.memory).value();
  std::optional<MemoryChoice> best;
  double best_time = 0;
  MemoryPrediction smallest;
  Recipe tried = recipe;
  const auto first = first_steps(recipe.train, dataset.train);
  for (const auto threads : halves(usable_threads(recipe.train.threads), 1))
    for (const auto row_tokens :
         halves(recipe.train.batch.pass_tokens, std::min(kSmallestRows, recipe.train.batch.pass_tokens))) {
      MemoryChoice choice{row_tokens, threads, false, 0};
      apply(choice, tried.train);
      const auto work = run_work(tried.train, first);
      for (const bool recompute : {false, true}) {
        if (recipe.train.recompute && !recompute) continue;
        choice.recompute = tried.train.recompute = recompute;
        const auto need = predict_memory(tried, model, compute, work, dataset);
        choice.peak = need.peak();
        if (smallest.peak() == 0 || need.peak() < smallest.peak()) smallest = need;
        const auto time = time_of(work, tried.train);
        if (need.peak() <= budget && (!best || time < best_time)) best = choice, best_time = time;
      }
    }
  if (best) return *best;
  const bool answers = smallest.generation > smallest.passes;
  throw RecipeError(
      fmt::format("train.memory: {} is too little: the least that this recipe runs in is about {} ({}); {}",
                  recipe.train.memory, bytes(smallest.peak()), describe(smallest),
                  answers ? "lower eval.batch, or give it more"
                          : "hold the base in fewer bits (model.weights), shorten the samples "
                            "(data.sample_tokens), lower eval.pass_tokens, or give it more"));
}

}  // namespace retort
