#include "train/ordered_sum.h"

#include <stdexcept>
#include <utility>

#include "base/profile.h"

namespace retort {

OrderedSum::OrderedSum(StepSums& sums, const std::vector<Tensor>& leaves, int64_t threads, Start start)
    : sums_(sums),
      leaves_(leaves),
      limit_(static_cast<size_t>(threads)),
      of_leaf_(leaves.size()),
      whole_(sums.forests),
      started_(start == Start::now) {
  sums_.gradients.resize(leaves.size());
  for (size_t i = 0; i < leaves.size(); ++i) {
    places_.emplace(leaves[i].unsafeGetTensorImpl(), i);
    of_leaf_[i].through = sums.forests;
  }
}

std::optional<size_t> OrderedSum::index_of(const Tensor& leaf) const {
  const auto found = places_.find(leaf.unsafeGetTensorImpl());
  return found == places_.end() ? std::nullopt : std::optional(found->second);
}

bool OrderedSum::OfForest::take(const Tensor& leaf, Tensor gradient) {
  const auto at = sum_.index_of(leaf);
  if (!at) return false;
  std::unique_lock lock(sum_.mutex_);
  sum_.bring(*at, index_, {std::move(gradient), {}, std::nullopt}, lock);
  return true;
}

// Kept to the end: the embedding may have a gradient of the same matrix, and a loss more than one.
bool OrderedSum::OfForest::take_product(ProductGradient gradient) {
  if (!sum_.index_of(gradient.matrix)) return false;
  of_head_.push_back(std::move(gradient));
  return true;
}

bool OrderedSum::OfForest::take_rows(RowGradient gradient) {
  if (!sum_.index_of(gradient.matrix)) return false;
  if (of_embedding_.matrix.defined()) throw std::logic_error("a pass looks up its embedding once");
  of_embedding_ = std::move(gradient);
  return true;
}

void OrderedSum::finish(OfForest& forest, std::vector<Tensor> gradients, double nats, double weight) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [&] { return ended_ || forest.index_ == whole_ || finished_.size() < limit_; });
  for (size_t i = 0; i < leaves_.size(); ++i) {
    Contribution contribution;
    if (i < gradients.size()) contribution.gradient = std::move(gradients[i]);
    for (auto& product : forest.of_head_)
      if (leaves_[i].is_same(product.matrix)) contribution.products.push_back(std::move(product));
    if (forest.of_embedding_.matrix.defined() && leaves_[i].is_same(forest.of_embedding_.matrix))
      contribution.rows = std::move(forest.of_embedding_);
    if (contribution.gradient.defined() || !contribution.products.empty() || contribution.rows)
      bring(i, forest.index_, std::move(contribution), lock);
  }
  finished_.emplace(forest.index_, Finished{nats, weight});
  count_finished();
  room_.notify_all();
  for (size_t i = 0; i < leaves_.size(); ++i) settle(i, lock);
}

void OrderedSum::start() {
  std::unique_lock lock(mutex_);
  started_ = true;
  count_finished();
  room_.notify_all();
  for (size_t i = 0; i < leaves_.size(); ++i) settle(i, lock);
}

void OrderedSum::count_finished() {
  if (!started_) return;
  for (auto next = finished_.find(whole_); next != finished_.end(); next = finished_.find(whole_)) {
    sums_.nats += next->second.nats;
    sums_.weight += next->second.weight;
    finished_.erase(next);
    ++whole_;
  }
}

Tensor OrderedSum::whole(const Tensor& leaf, int64_t forests) {
  const auto at = index_of(leaf);
  if (!at) throw std::logic_error("a leaf of a layer is not among the trained ones");
  auto& here = of_leaf_[*at];
  for (auto& [forest, contribution] : std::exchange(here.waiting, {})) add(*at, std::move(contribution));
  here.through = forests;
  return sums_.gradients[*at];
}

void OrderedSum::restore(const Tensor& leaf, const Tensor& sum, int64_t forests) {
  const auto at = index_of(leaf);
  if (!at) throw std::logic_error("a leaf of a layer is not among the trained ones");
  of_leaf_[*at].through = forests;
  if (sum.defined()) sums_.gradients[*at] = sum.reshape(leaf.sizes()).clone();
}

void OrderedSum::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  room_.notify_all();
}

void OrderedSum::close() {
  const std::lock_guard lock(mutex_);
  for (const auto& leaf : of_leaf_)
    if (leaf.through != whole_) throw std::logic_error("a sum of gradients has a part of a forest");
  sums_.forests = whole_;
}

void OrderedSum::bring(size_t leaf, int64_t forest, Contribution contribution,
                       std::unique_lock<std::mutex>& lock) {
  auto& here = of_leaf_[leaf];
  const bool at_work =
      here.adding && forest == here.through;  // the lock is free while that forest's is being added
  if (forest < here.through || at_work || !here.waiting.emplace(forest, std::move(contribution)).second)
    throw std::logic_error("two gradients of a leaf from one pass");
  settle(leaf, lock);
}

// What is next in order and here is added, outside of the lock and by one thread at a time.
void OrderedSum::settle(size_t leaf, std::unique_lock<std::mutex>& lock) {
  auto& here = of_leaf_[leaf];
  if (!started_ || here.adding) return;
  here.adding = true;
  while (true) {
    if (const auto next = here.waiting.find(here.through); next != here.waiting.end()) {
      auto contribution = std::move(next->second);
      here.waiting.erase(next);
      lock.unlock();
      add(leaf, std::move(contribution));
      lock.lock();
    } else if (here.through >= whole_) {
      break;  // not brought, and its forest may still bring it
    }
    ++here.through;
  }
  here.adding = false;
}

void OrderedSum::add(size_t leaf, Contribution contribution) {
  const Span span({"sum of gradients", "step"});
  const at::NoGradGuard no_graph;
  auto& sum = sums_.gradients[leaf];
  auto& gradient = contribution.gradient;
  if (gradient.defined()) {
    if (sum.defined()) sum.add_(gradient);
    else if (gradient.scalar_type() == at::kFloat && gradient.is_contiguous() &&
             gradient.storage().use_count() == 1)
      sum = std::move(gradient);
    else sum = gradient.to(at::kFloat, false, true, at::MemoryFormat::Contiguous);
  }
  for (const auto& product : contribution.products) product.add_to(sum);
  if (contribution.rows) contribution.rows->add_to(sum);
}

}  // namespace retort
