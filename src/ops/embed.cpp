#include "ops/embed.h"

#include <cmath>
#include <stdexcept>

#include "base/random.h"
#include "ops/composed.h"
#include "ops/differentiable.h"
#include "ops/gradient_sink.h"

namespace retort {

void RowGradient::add_to(Tensor& sum) const {
  if (!matrix.defined()) return;
  if (!sum.defined())
    sum = at::zeros(matrix.sizes(), matrix.options().dtype(at::kFloat).requires_grad(false));
  sum.index_add_(0, tokens.to(sum.device()), rows.to(sum.device(), at::kFloat), factor);
}

namespace {

// A frozen table where it stays on a device: it asks for room last, since only the rows of tokens travel
// without.
std::optional<Tensor> table_there(const Weight& table, at::Device device, at::ScalarType type) {
  if (device.is_cpu() || table.trainable() || !table.copies || !table.copies->asked_before())
    return std::nullopt;
  return copy_there(table.dense, device, type, table.copies);
}

// Rows of the table for each token, in fp32 where an adapter or trained rows are added; `ids` are the tokens
// in the CPU's memory.
Tensor looked_up(const Linear& table, const Tensor& tokens, const Tensor& ids_input, at::ScalarType type) {
  const auto& weight = table.weight;
  const auto* ids = ids_input.const_data_ptr<int64_t>();
  const int64_t n = tokens.size(0);
  if (weight.dense.defined()) {
    if (const auto there = table_there(weight, tokens.device(), type))
      return there->index_select(0, tokens).to(type);
    return weight.dense.detach().index_select(0, tokens.to(weight.dense.device())).to(tokens.device(), type);
  }
  auto x = at::empty({n, weight.columns}, at::TensorOptions(type));
  for (int64_t i = 0; i < n; ++i) {
    auto row = x.narrow(0, i, 1);
    widen_rows_into(weight, ids[i], 1, row);
  }
  return x.to(tokens.device());
}

// The tokens of a pass whose rows are trained alone, and which rows those are.
struct TrainedTokens {
  Tensor places, rows;  // int64: of the pass, of TrainedRows::values
};
TrainedTokens trained_tokens(const TrainedRows& rows, const Tensor& tokens, const Tensor& ids_input) {
  std::vector<int64_t> places, found;
  const auto* ids = ids_input.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < tokens.size(0); ++i)
    if (const auto row = rows.find(ids[i]); row >= 0) places.push_back(i), found.push_back(row);
  return {list_on(tokens, places), list_on(rows.values, found)};
}

void add_noise(Tensor& x, const Pass& pass) {
  const int64_t n = x.size(0), width = x.size(1);
  const Draws draws(pass.dropout_key, "embedding noise");
  const double length = static_cast<double>(pass.positions.max().item<int64_t>() + 1);
  const double size = pass.embedding_noise / std::sqrt(length * static_cast<double>(width));
  auto noise = at::empty({n, width}, at::TensorOptions(at::kFloat));
  auto* out = noise.mutable_data_ptr<float>();
  for (int64_t i = 0; i < n * width; ++i)
    out[i] = static_cast<float>(size * (2 * draws.uniform(static_cast<uint64_t>(i)) - 1));
  x.add_(noise.to(x.device()));
}

}  // namespace

Tensor embed(const Linear& table, const Pass& pass, double scale) {
  const auto type = pass.compute;
  const auto& matrix = table.weight;
  const auto factor = at::scalar_tensor(scale, at::TensorOptions(type)).item<double>();
  const auto bytes =
      static_cast<double>(pass.size() * matrix.columns * static_cast<int64_t>(c10::elementSize(type)));
  const auto adapter = table.adapter.value_or(LowRank());
  if (adapter.magnitude.defined()) throw std::logic_error("DoRA of an embedding is not computed");
  const auto values = table.rows ? table.rows->values : Tensor();
  const Tensors inputs{matrix.dense, adapter.a, adapter.b, values};
  return differentiable({"embed", 0, 2 * bytes, 0, 2 * bytes}, inputs, [&](bool) -> Computed {
    const int64_t n = pass.size();
    const auto here = pass.tokens.cpu();
    const auto* ids = here.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < n; ++i)
      if (ids[i] < 0 || ids[i] >= matrix.rows)
        throw std::out_of_range("token " + std::to_string(ids[i]) + " is outside the model's vocabulary of " +
                                std::to_string(matrix.rows));
    const bool changed = table.adapter || table.rows;
    auto x = looked_up(table, pass.tokens, here, changed ? at::kFloat : type);
    Tensor low;  // rows of B [N,rank]
    if (table.adapter) {
      low = adapter.b.index_select(0, here).to(x.device());
      x = at::addmm(x, low, brought(adapter.a, x.device(), at::kFloat), 1, adapter.scaling);
    }
    TrainedTokens trained;
    if (table.rows) {
      trained = trained_tokens(*table.rows, pass.tokens, here);
      x.index_copy_(0, trained.places, values.index_select(0, trained.rows).to(x.device()));
    }
    if (changed) x = x.to(type);
    if (factor != 1) x.mul_(factor);
    if (pass.training && pass.embedding_noise > 0) add_noise(x, pass);
    return {x,
            [tokens = pass.tokens, dense = matrix.dense, adapter, low, values, trained, factor,
             sink = pass.gradients](const Tensor& dx) -> Tensors {
              Tensors gradients(4);
              Tensor of_matrix = dx;  // without the rows that are trained alone
              if (values.defined()) {
                const auto rows = dx.index_select(0, trained.places).to(values.device(), at::kFloat);
                gradients[3] = at::zeros_like(values);
                gradients[3].index_add_(0, trained.rows, rows, factor);
                of_matrix = dx.index_fill(0, trained.places, 0);
              }
              if (low.defined()) {
                const auto rows = of_matrix.to(at::kFloat);
                const auto size = factor * adapter.scaling;
                const auto &a = adapter.a, &b = adapter.b;
                gradients[1] = at::mm(low.t(), rows).mul_(size).to(a.device());
                gradients[2] = at::zeros_like(b);
                gradients[2].index_add_(0, tokens.to(b.device()),
                                        at::mm(rows, a.to(rows.device()).t()).to(b.device()), size);
              }
              if (!dense.defined() || !dense.requires_grad()) return gradients;
              RowGradient gradient{dense, tokens, of_matrix, factor};
              if (sink && sink->take_rows(gradient)) return gradients;
              gradient.add_to(gradients[0]);
              return gradients;
            }};
  });
}

}  // namespace retort
