#include "schedule/experts.h"

#include <algorithm>

#include "base/stop.h"
#include "models/layer_stream.h"
#include "ops/gemm.h"

namespace retort {
namespace {

// Rows of a product: from here on a matrix's decoding costs next to nothing.
constexpr int64_t kTogether = 512;

Tensor index_of(std::span<const int32_t> slots, int64_t divisor) {
  auto index = at::empty({static_cast<int64_t>(slots.size())}, at::TensorOptions(at::kLong));
  auto* out = index.mutable_data_ptr<int64_t>();
  for (const auto slot : slots) *out++ = slot / divisor;
  return index;
}

// All of one expert's tokens, text by text.
std::vector<ExpertTokens> tokens_of(const SparseLayer& layer, size_t expert) {
  std::vector<ExpertTokens> texts;
  for (size_t i = 0; i < layer.inputs.size(); ++i) {
    const auto* plan = layer.inputs[i].routing.plan.get();
    if (plan && !plan->slots[expert].empty())
      texts.push_back({static_cast<int64_t>(i), plan->each, plan->slots[expert]});
  }
  return texts;
}

// Whether nothing is said or drawn by the text that a row is of.
bool texts_are_alike(const SparseLayer& layer, int64_t expert) {
  const auto linears = layer.mlp.linears_of(expert);
  return std::none_of(linears.begin(), linears.end(),
                      [](const Linear* linear) { return linear->adapter.has_value(); }) &&
         std::none_of(layer.passes.begin(), layer.passes.end(),
                      [](const Pass& pass) { return pass.observe != nullptr; });
}

// Of fewer rows than this some product of the expert sums in another order.
int64_t least_rows(const SparseLayer& layer, int64_t expert) {
  int64_t least = 0;
  for (const auto* linear : layer.mlp.linears_of(expert))
    least = std::max(least, few_rows_limit(base_matrix(*linear).weight.type));
  return least + 1;
}

using Batches = std::vector<std::vector<ExpertTokens>>;

// Texts one behind the other, cut into batches of nearly equal size; a text may go on in the next.
void cut(const std::vector<ExpertTokens>& texts, Batches& batches) {
  int64_t rows = 0;
  for (const auto& text : texts) rows += text.size();
  const auto pieces = pieces_of_expert(rows);
  int64_t begun = 0, room = 0;
  for (auto text : texts)
    while (!text.slots.empty()) {
      if (room == 0) {
        room = rows * (begun + 1) / pieces - rows * begun / pieces;
        batches.emplace_back();
        ++begun;
      }
      const auto some = std::min(room, text.size());
      batches.back().push_back({text.text, text.each, text.slots.first(static_cast<size_t>(some))});
      text.slots = text.slots.subspan(static_cast<size_t>(some));
      room -= some;
    }
}

Batches batches_of(const SparseLayer& layer, int64_t expert) {
  const auto texts = tokens_of(layer, static_cast<size_t>(expert));
  Batches batches;
  if (texts.empty()) return batches;
  if (!texts_are_alike(layer, expert)) {
    for (const auto& text : texts) batches.push_back({text});
    return batches;
  }
  const auto least = least_rows(layer, expert);
  std::vector<ExpertTokens> enough;
  for (const auto& text : texts)
    if (text.size() < least) batches.push_back({text});
    else enough.push_back(text);
  cut(enough, batches);
  return batches;
}

Tensor one_behind_the_other(const std::vector<Tensor>& parts) {
  return parts.size() == 1 ? parts[0] : at::cat(parts, 0);
}

}  // namespace

Tensor rows_of(const std::vector<Tensor>& of_texts, const ExpertBatch& batch) {
  std::vector<Tensor> parts;
  for (const auto& tokens : batch.texts)
    parts.push_back(
        of_texts[static_cast<size_t>(tokens.text)].index_select(0, index_of(tokens.slots, tokens.each)));
  return one_behind_the_other(parts);
}

void add_rows(Tensor& sums, const Tensor& rows, const ExpertTokens& tokens) {
  sums.index_add_(0, index_of(tokens.slots, tokens.each), rows.to(at::kFloat));
}

int64_t pieces_of_expert(int64_t rows) { return (rows + kTogether - 1) / kTogether; }

void each_expert(const SparseLayer& layer, const Walk& walk,
                 const std::function<OrderedWork::Later(const ExpertBatch& batch)>& work) {
  std::vector<const Linear*> next;
  const auto experts = static_cast<int64_t>(layer.mlp.experts.size());
  for (int64_t e = 0; e < experts; ++e)
    if (!tokens_of(layer, static_cast<size_t>(e)).empty())
      for (const auto* linear : layer.mlp.linears_of(e)) next.push_back(linear);
  auto* stream = layer.model.stream();
  if (stream) stream->expect(next);
  std::vector<Tensor> normed;
  for (const auto& input : layer.inputs) normed.push_back(input.normed);
  const auto rows_read = [&](int64_t expert, const std::vector<ExpertTokens>& texts) {
    const at::NoGradGuard no_graph;
    ExpertBatch batch{{expert, {}, {}}, texts};
    batch.rows.x = rows_of(normed, batch);
    std::vector<Tensor> weights;
    for (const auto& tokens : texts) {
      const auto& [of_text, routing] = layer.inputs[static_cast<size_t>(tokens.text)];
      weights.push_back(routing.weights.detach().reshape(-1).index_select(0, index_of(tokens.slots, 1)));
      walk.shelf.rest(of_text);
    }
    batch.rows.weights = one_behind_the_other(weights);
    return batch;
  };
  const WorkerScope in_order(1, Gradients::off);  // inner threads of this one would take the others' time
  // One more than are at work, so that no thread waits for what is done in order.
  OrderedWork workers(walk.how.passes, static_cast<size_t>(walk.how.passes) + 1);
  for (int64_t e = 0; e < experts; ++e) {
    const auto batches = batches_of(layer, e);
    for (size_t b = 0; b < batches.size(); ++b)
      workers.add([&, e, texts = batches[b], last = b + 1 == batches.size()]() -> OrderedWork::Later {
        const WorkerScope scope(walk.how.inner, walk.gradients);
        leave_if_stopped(walk.doing);
        auto later = work(rows_read(e, texts));
        return [&, e, last, later = std::move(later)] {
          if (later) later();
          if (last && stream) stream->let_go(layer.mlp.linears_of(e));
        };
      });
  }
  workers.finish();
}

}  // namespace retort
