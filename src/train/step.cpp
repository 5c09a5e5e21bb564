#include "train/step.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <stdexcept>

#include "base/error.h"
#include "base/profile.h"
#include "base/stop.h"
#include "ops/device_copies.h"
#include "ops/workers.h"
#include "schedule/backward.h"
#include "schedule/read.h"
#include "train/ordered_sum.h"
#include "train/peers.h"

namespace retort {
namespace {

int64_t longest(const std::vector<Forest>& forests) {
  int64_t rows = 0;
  for (const auto& forest : forests) rows = std::max(rows, forest.size());
  return rows;
}

int64_t rounds(const std::vector<Forest>& forests, int64_t threads) {
  return (static_cast<int64_t>(forests.size()) + threads - 1) / threads;
}

// The time of forests in rows of one thread. Fewer forests than threads share the threads out among their
// operations, where each waits for the others: two do 1.88 times the work of one on a quiet machine, much
// less where other processes take turns on the cores.
double cost(const std::vector<Forest>& forests, int64_t threads) {
  constexpr double kWaiting = 0.25;
  const auto inner = static_cast<double>(
      std::max<int64_t>(1, threads / std::max<int64_t>(1, static_cast<int64_t>(forests.size()))));
  return static_cast<double>(rounds(forests, threads) * longest(forests)) * (1 + kWaiting * (inner - 1)) /
         inner;
}

struct ForestLoss {
  double nats = 0, weight = 0;
};

constexpr auto kTraining = "training";

void require_walkable(const Objective& objective) {
  if (objective.runs_the_model())
    throw RecipeError(
        "distill: this loss looks at more of the student than its last hidden states, which model.schedule: "
        "layers does not keep; set model.schedule to tokens, or leave features and the live teacher out");
}

// The forests from `first` on whose states between all layers fit the budget: at least one.
size_t forests_that_fit(const Model& model, const StepPlan& plan, size_t first, at::ScalarType compute) {
  std::vector<int64_t> rows;
  for (const auto& forest : plan.forests) rows.push_back(forest.size());
  return passes_that_fit(model, rows, first, compute, static_cast<double>(model.config.layers));
}

// A stop in its middle leaves nothing: a layer's gradients of some forests are no sums.
bool add_gradients_by_layers(const StepJob& job, const std::vector<Tensor>& leaves, StepSums& sums) {
  const auto& model = job.model;
  const auto& objective = job.objective;
  const auto& plan = job.plan;
  require_walkable(objective);
  const auto how = abreast(job.threads, static_cast<int64_t>(plan.forests.size()));
  try {
    while (sums.forests < static_cast<int64_t>(plan.forests.size())) {
      const auto first = static_cast<size_t>(sums.forests);
      OrderedSum sum(sums, leaves, job.threads);
      std::deque<OrderedSum::OfForest> brought;
      BackwardWalk walk{model, {}, leaves, {}, {}, kTraining};
      auto end = first + 1;
      for (size_t i = first; i < end; ++i) {
        const auto index = static_cast<int64_t>(i);
        auto pass = job.make_pass(plan.forests[i], index);
        objective.ask(plan.forests[i], pass);
        pass.gradients = &brought.emplace_back(sum, index);
        if (i == first) end = forests_that_fit(model, plan, first, pass.compute);
        walk.passes.push_back(std::move(pass));
      }
      std::vector<ForestLoss> losses(end - first);
      walk.loss = [&](int64_t i, const Tensor& hidden) {
        const auto at = static_cast<size_t>(i);
        const auto loss = objective.loss(model, hidden, plan.forests[first + at], walk.passes[at]);
        losses[at] = {loss.nats.defined() ? loss.nats.item<double>() : 0, loss.weight};
        return loss.nats;
      };
      walk.bring = [&](int64_t i, const Tensor& leaf, Tensor gradient) {
        brought[static_cast<size_t>(i)].take(leaf, std::move(gradient));
      };
      if (job.record) {
        if (first > 0 || end < plan.forests.size())
          throw std::logic_error("a walk record is of all forests together");
        const auto forests = static_cast<int64_t>(end);
        walk.record = job.record;
        walk.sum = [&sum, forests](const Tensor& leaf) { return sum.whole(leaf, forests); };
        walk.restore = [&sum, forests](const Tensor& leaf, const Tensor& of_all) {
          sum.restore(leaf, of_all, forests);
        };
      }
      auto outside = backward_by_layers(walk, how);
      for (size_t i = 0; i < losses.size(); ++i)
        sum.finish(brought[i], std::move(outside[i]), losses[i].nats, losses[i].weight);
      sum.close();
    }
  } catch (const Stopped&) {
    sums = {};
    return false;
  } catch (...) {
    sums = {};
    throw;
  }
  return true;
}

// What this rank has computed follows the sums of the ranks before it, and the last rank's are everybody's: a
// sum along all ranks in forest order, as that of one process. Where a stop has ended an earlier rank's
// forests, what comes after them is left out.
void sum_along_ranks(Peers& peers, const std::vector<Tensor>& leaves, OrderedSum& own, StepSums& sums) {
  const Span span({"sums along ranks", "step"});
  const auto rank = peers.rank(), last = peers.count() - 1;
  if (rank == 0) own.close();
  else {
    const auto begin = sums.forests;
    sums = receive_sums(peers, rank - 1, leaves);
    if (sums.forests == begin) {
      own.start();
      own.close();
    }
  }
  if (rank < last) send_sums(peers, rank + 1, sums);
  broadcast_sums(peers, last, leaves, sums);
}

// Every rank has filled its own part of them; afterwards all have all.
void join_losses(Peers& peers, std::vector<ForestLoss>& parts) {
  const auto count = static_cast<int64_t>(parts.size());
  const auto bytes_of = [&](const Share& share) {
    return std::as_writable_bytes(
        std::span(parts).subspan(static_cast<size_t>(share.begin), static_cast<size_t>(share.size())));
  };
  for (int64_t rank = 0; rank < peers.count(); ++rank)
    broadcast(peers, rank, bytes_of(share_of_rank(0, count, rank, peers.count())));
}

}  // namespace

StepPlan plan_step(const Samples& samples, std::span<const int64_t> chosen, int64_t row_tokens,
                   int64_t parts) {
  const Span span({"plan", "step"});
  std::vector<Sample> batch;
  for (const auto index : chosen) batch.push_back(samples[static_cast<size_t>(index)]);
  StepPlan plan;
  plan.forests = build_forests(batch, row_tokens, 4, &plan.saving);

  // Forests of about equal size for all threads, instead of full ones and what is left: where what the parts
  // have in common, and then stands in several, does not cost more. That is weighed as for `parts` threads
  // also where train.batch.parts says them: how many there are must not matter then.
  const auto wanted = rounds(plan.forests, parts) * parts;
  if (parts > 1 && batch.size() > plan.forests.size()) {
    Saving saving;
    auto budget = std::min(row_tokens, (plan.saving.forest_rows + wanted - 1) / wanted);
    auto cut = build_forests(batch, budget, 4, &saving);
    while (static_cast<int64_t>(cut.size()) > wanted && budget < row_tokens) {
      budget = std::min(row_tokens, budget + std::max<int64_t>(1, budget / 16));
      cut = build_forests(batch, budget, 4, &saving);
    }
    if (cost(cut, parts) < cost(plan.forests, parts)) {
      plan.forests = std::move(cut);
      plan.saving = saving;
    }
  }
  for (auto& forest : plan.forests) {
    plan.supervised += static_cast<int64_t>(forest.targets.size());
    for (auto& target : forest.targets)
      target.sample = static_cast<int32_t>(chosen[static_cast<size_t>(target.sample)]);
  }
  return plan;
}

bool add_gradients(const StepJob& job, const std::vector<Tensor>& leaves, StepSums& sums) {
  if (job.model.stream()) return add_gradients_by_layers(job, leaves, sums);
  const auto count = static_cast<int64_t>(job.plan.forests.size());
  if (sums.forests == count) {
    sums.gradients.resize(leaves.size());
    return true;
  }
  const UnchangedScope one_step;
  const auto [first, end] = share_of(sums.forests, count, job.peers);
  // The sums of the ranks before come when they have them, and all forests of this one wait for these.
  const bool follows = job.peers && job.peers->rank() > 0;
  if (follows) sums = {.gradients = {}, .nats = 0, .weight = 0, .forests = first};
  OrderedSum sum(sums, leaves, follows ? std::max<int64_t>(1, end - first) : job.threads,
                 follows ? OrderedSum::Start::when_told : OrderedSum::Start::now);
  // Inner threads as for the whole step, also where it is continued in its middle or divided: they change the
  // last bits.
  const auto abreast = std::min(job.threads, count), inner = job.threads / abreast, own = end - first;
  const auto add_one = [&, from = first](int64_t i) {
    if (stop_requested()) return sum.end();
    try {
      const auto index = from + i;
      const auto& forest = job.plan.forests[static_cast<size_t>(index)];
      const Span span({"between operations", "forest"});
      OrderedSum::OfForest brought(sum, index);
      auto pass = job.make_pass(forest, index);
      pass.gradients = &brought;
      const auto loss = job.objective(job.model, forest, pass);
      std::vector<Tensor> gradients;
      if (loss.nats.defined() && loss.nats.requires_grad())
        gradients = torch::autograd::grad({loss.nats}, leaves, {}, std::nullopt, false, true);
      sum.finish(brought, std::move(gradients), loss.nats.defined() ? loss.nats.item<double>() : 0,
                 loss.weight);
    } catch (...) {
      sum.end();
      throw;
    }
  };
  try {
    if (job.model.device().is_cpu()) run_workers(std::min(abreast, own) * inner, own, add_one, Gradients::on);
    else run_in_turn(job.threads, own, add_one, Gradients::on);
    if (job.peers) sum_along_ranks(*job.peers, leaves, sum, sums);
    else sum.close();
  } catch (...) {
    sums = {};  // they may have a part of the forest that failed
    throw;
  }
  return sums.forests == count;
}

std::optional<double> mean_loss(const StepJob& job) {
  const auto& model = job.model;
  const auto& objective = job.objective;
  const auto& forests = job.plan.forests;
  const UnchangedScope one_evaluation;
  std::vector<ForestLoss> parts(forests.size());
  const auto keep = [&](int64_t i, const LossSum& loss) {
    parts[static_cast<size_t>(i)] = {loss.nats.defined() ? loss.nats.item<double>() : 0, loss.weight};
  };
  constexpr auto kDoing = "evaluating the held-out samples";
  const auto measure = [&](int64_t i) {
    leave_if_stopped(kDoing);
    const auto& forest = forests[static_cast<size_t>(i)];
    const Span span({"between operations", "forest"});
    keep(i, objective(model, forest, job.make_pass(forest, i)));
  };
  const auto count = static_cast<int64_t>(forests.size());
  if (model.stream()) {
    require_walkable(objective);
    std::vector<int64_t> all(forests.size());
    std::iota(all.begin(), all.end(), int64_t{0});
    const auto pass_of = [&](int64_t i) {
      const auto& forest = forests[static_cast<size_t>(i)];
      auto pass = job.make_pass(forest, i);
      objective.ask(forest, pass);
      return pass;
    };
    read_texts({{model, pass_of}}, all, job.threads, kDoing, [&](int64_t i, Read&& read) {
      keep(i, objective.loss(model, read.hidden[0], forests[static_cast<size_t>(i)], read.passes[0]));
    });
  } else if (job.peers) {
    const auto own = share_of(0, count, job.peers);
    const bool done = done_by_all(*job.peers, [&] {
      run_workers(
          threads_of_share(job.threads, count, own.size()), own.size(),
          [&](int64_t i) { measure(own.begin + i); }, Gradients::off);
    });
    if (!done) leave_with_all(kDoing);
    join_losses(*job.peers, parts);
  } else {
    (model.device().is_cpu() ? run_workers : run_in_turn)(job.threads, count, measure, Gradients::off);
  }
  double nats = 0, weight = 0;
  for (const auto& part : parts) {
    nats += part.nats;
    weight += part.weight;
  }
  return weight > 0 ? std::optional(nats / weight) : std::nullopt;
}

}  // namespace retort
