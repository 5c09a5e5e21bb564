#include "ops/attend_chosen.h"

#include <cmath>
#include <stdexcept>

#include "ops/attend_parts.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {
namespace {

struct Shape {
  int64_t heads, kv_heads, width, values, group;  // widths of a key and a value; group = heads / kv_heads
  float scale;
  bool front;  // values are the first numbers of the keys
};

// One query and one key/value head: `group` columns over `count` rows of keys.
struct Piece {
  int64_t query, head, count;
  const int32_t* rows;

  int64_t place(const Shape& shape) const { return query * shape.heads + head * shape.group; }  // in [N,H]
};

// Calls with(query, its rows, how many).
template <class With> void each_query(const ChosenKeys& chosen, int64_t begin, int64_t end, With&& with) {
  for (auto query = begin; query < end; ++query) {
    const auto first = chosen.first[static_cast<size_t>(query)];
    const auto count = chosen.first[static_cast<size_t>(query) + 1] - first;
    if (count > 0) with(query, chosen.rows.data() + first, count);
  }
}

// Rows of keys or values [count, width] as operands, a readable number after the last.
template <class Number> Number* gather(const Stored& from, const Piece& piece, Scratch use) {
  auto* out = scratch<Number>(use, piece.count * from.width + 1);
  auto* room = scratch<float>(Scratch::key_row, from.width);
  for (int64_t i = 0; i < piece.count; ++i) {
    if (i + kRowsAhead < piece.count)
      prefetch(from.place(piece.rows[i + kRowsAhead], piece.head), from.row_bytes());
    from.copy_row(piece.rows[i], piece.head, operand_of(Number{}), out + i * from.width, room);
  }
  out[piece.count * from.width] = Number{};
  return out;
}

// Rows of a query's heads [group, width] of x [N, H * width], likewise.
template <class Number>
Number* operands(const Tensor& x, const Shape& shape, const Piece& piece, int64_t width, Scratch use) {
  auto* out = scratch<Number>(use, shape.group * width + 1);
  to_operands(
      static_cast<const std::byte*>(x.const_data_ptr()) + piece.place(shape) * width * x.element_size(),
      x.scalar_type(), operand_of(Number{}), out, shape.group * width);
  out[shape.group * width] = Number{};
  return out;
}

// out [m, n] = left [m, k] times `matrix`, whose K is k.
template <class Number> void multiply(const GemmKernel& kernel, const Number* left, int64_t stride, int64_t m,
                                      const GemmMatrix& matrix, float* out, int64_t out_stride, bool add) {
  const auto k = matrix.k(), n = matrix.n();
  auto* panels = scratch<std::byte>(Scratch::score_panels, panel_bytes(kernel, k, n));
  pack_panels(kernel, matrix, 0, n, panels);
  multiply_panels(kernel, rows_of(left, stride), m, k, panels, n,
                  {out, out_stride, Operand::f32, nullptr, add});
}

// Scores [group, stride of count] of a piece, unscaled; stride is even.
template <class Number> float* score(const GemmKernel& kernel, const Number* queries, const Number* keys,
                                     const Shape& shape, const Piece& piece, int64_t stride) {
  auto* scores = scratch<float>(Scratch::scores, shape.group * stride);
  multiply(kernel, queries, shape.width, shape.group,
           matrix_of(keys, piece.count, shape.width, shape.width, false), scores, stride, false);
  return scores;
}

// fp32 [group, stride] as operands whose rows end in a zero.
template <class Number>
Number* narrowed(float* rows, const Shape& shape, int64_t count, int64_t stride, Scratch use) {
  auto* out = scratch<Number>(use, shape.group * stride + 1);
  for (int64_t c = 0; c < shape.group; ++c)
    for (auto i = count; i < stride; ++i) rows[c * stride + i] = 0;
  from_operands(rows, Operand::f32, operand_of(Number{}) == Operand::f32 ? at::kFloat : at::kBFloat16, out,
                shape.group * stride);
  return out;
}

struct Kept {
  const Stored &keys, &values;
};

template <class Number> void forward(const GemmKernel& kernel, const Tensor& q, const Kept& kept,
                                     const Shape& shape, const Piece& piece, Tensor& out, float* sums) {
  const auto stride = round_up(piece.count, 2);
  const auto* queries = operands<Number>(q, shape, piece, shape.width, Scratch::queries);
  const auto* keys = gather<Number>(kept.keys, piece, Scratch::columns);
  auto* scores = score(kernel, queries, keys, shape, piece, stride);
  for (int64_t c = 0; c < shape.group; ++c)
    sums[piece.place(shape) + c] =
        row_loops().scores.probabilities(scores + c * stride, piece.count, 0, piece.count, shape.scale, 0);
  const auto* p = narrowed<Number>(scores, shape, piece.count, stride, Scratch::probabilities);
  const auto* values = shape.front ? keys : gather<Number>(kept.values, piece, Scratch::upstream);
  auto* total = scratch<float>(Scratch::sums, shape.group * shape.values);
  multiply(kernel, p, stride, shape.group,
           matrix_of(values, piece.count, shape.values, shape.front ? shape.width : shape.values, true),
           total, shape.values, false);
  from_operands(total, Operand::f32, out.scalar_type(),
                static_cast<std::byte*>(out.mutable_data_ptr()) +
                    piece.place(shape) * shape.values * out.element_size(),
                shape.group * shape.values);
}

struct Saved {
  Tensor q, dout, out;
  const float* sums;
};

// rows of `gradient` [.., K, width] += rows [count, width].
void add_to(float* gradient, const Shape& shape, const Piece& piece, const float* rows, int64_t width) {
  for (int64_t i = 0; i < piece.count; ++i)
    row_loops().scores.add_scaled(gradient + (piece.rows[i] * shape.kv_heads + piece.head) * width,
                                  rows + i * width, 1.0f, width);
}

template <class Number> void backward(const GemmKernel& kernel, const Saved& saved, const Kept& kept,
                                      const Shape& shape, const Piece& piece, Tensor& dq, float* dk,
                                      float* dv) {
  const auto stride = round_up(piece.count, 2), turned = round_up(shape.group, 2);
  const auto *queries = operands<Number>(saved.q, shape, piece, shape.width, Scratch::queries),
             *upstream = operands<Number>(saved.dout, shape, piece, shape.values, Scratch::upstream_rows);
  const auto* keys = gather<Number>(kept.keys, piece, Scratch::columns);
  const auto* values = shape.front ? keys : gather<Number>(kept.values, piece, Scratch::upstream);
  const auto value_stride = shape.front ? shape.width : shape.values;
  auto* p = score(kernel, queries, keys, shape, piece, stride);
  auto* ds = scratch<float>(Scratch::slopes, shape.group * stride);
  multiply(kernel, upstream, shape.values, shape.group,
           matrix_of(values, piece.count, shape.values, value_stride, false), ds, stride, false);
  with_element(saved.q.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    for (int64_t c = 0; c < shape.group; ++c) {
      const auto place = piece.place(shape) + c;
      float shared = 0;  // sum_j p_j dp_j = dO . O
      loops_of<Element>().dots(elements<Element>(saved.dout) + place * shape.values,
                               elements<Element>(saved.out) + place * shape.values, 1, shape.values, &shared);
      auto *own = p + c * stride, *slope = ds + c * stride;
      for (int64_t i = 0; i < piece.count; ++i) own[i] *= shape.scale;
      loops_of<float>().softmax_gradient(own, saved.sums[place], 1, 0, piece.count);
      for (int64_t i = 0; i < piece.count; ++i) slope[i] = own[i] * (slope[i] - shared) * shape.scale;
    }
  });
  const auto* slopes = narrowed<Number>(ds, shape, piece.count, stride, Scratch::gradients);
  auto* total = scratch<float>(Scratch::sums, std::max(shape.group, piece.count) * shape.width);
  multiply(kernel, slopes, stride, shape.group, matrix_of(keys, piece.count, shape.width, shape.width, true),
           total, shape.width, false);
  from_operands(
      total, Operand::f32, dq.scalar_type(),
      static_cast<std::byte*>(dq.mutable_data_ptr()) + piece.place(shape) * shape.width * dq.element_size(),
      shape.group * shape.width);
  // [group, count] as the left operand [count, group].
  const auto transposed = [&](const Number* rows) {
    const auto bytes = static_cast<int64_t>(sizeof(Number));
    auto* out = scratch<Number>(Scratch::keys_to_transpose, piece.count * turned + 1);
    kernel.transpose(rows, stride * bytes, shape.group, piece.count, out, turned * bytes);
    return out;
  };
  multiply(kernel, transposed(slopes), turned, piece.count,
           matrix_of(queries, shape.group, shape.width, shape.width, true), total, shape.width, false);
  const auto* weights = narrowed<Number>(p, shape, piece.count, stride, Scratch::probabilities);
  const auto upstream_matrix = matrix_of(upstream, shape.group, shape.values, shape.values, true);
  if (shape.front)
    multiply(kernel, transposed(weights), turned, piece.count, upstream_matrix, total, shape.width, true);
  add_to(dk, shape, piece, total, shape.width);
  if (shape.front) return;
  total = scratch<float>(Scratch::sums, piece.count * shape.values);
  multiply(kernel, transposed(weights), turned, piece.count, upstream_matrix, total, shape.values, false);
  add_to(dv, shape, piece, total, shape.values);
}

// Runs of queries with about equally many keys, one for each thread that may be used.
std::vector<std::pair<int64_t, int64_t>> slices_of(const ChosenKeys& chosen) {
  const auto queries = static_cast<int64_t>(chosen.first.size()) - 1, threads = team_size();
  std::vector<std::pair<int64_t, int64_t>> slices;
  for (int64_t i = 0; i < threads; ++i) {
    const auto end = chosen.first.back() * (i + 1) / threads;
    const auto begin = slices.empty() ? 0 : slices.back().second;
    auto last =
        std::lower_bound(chosen.first.begin() + begin, chosen.first.end(), end) - chosen.first.begin();
    if (i + 1 == threads) last = queries;
    if (last > begin) slices.emplace_back(begin, last);
  }
  return slices;
}

OperationWork work_of(const Tensor& q, const Tensor& k, const Shape& shape, const ChosenKeys& chosen) {
  const double pairs = 2 * static_cast<double>(chosen.first.back() * shape.heads),
               keys = pairs * static_cast<double>(shape.width),
               values = pairs * static_cast<double>(shape.values), bytes = bytes_of(q) + bytes_of(k);
  return {"attend to chosen keys", keys + values, bytes, 3 * keys + 2 * values, 2 * bytes};
}

}  // namespace

Tensor attend_chosen(const Tensor& q_input, const Tensor& k_input, const Tensor& v_input, int64_t value_width,
                     const std::shared_ptr<const ChosenKeys>& chosen, const AttendRule& rule,
                     const Pass& pass) {
  const auto q = q_input.contiguous(), k = k_input.contiguous(),
             v = v_input.defined() ? v_input.contiguous() : Tensor();
  Shape shape{q.size(1), k.size(1), q.size(2), v.defined() ? v.size(2) : value_width, 0, 0, !v.defined()};
  shape.group = shape.heads / shape.kv_heads;
  shape.scale =
      static_cast<float>(rule.scale != 0 ? rule.scale : 1 / std::sqrt(static_cast<double>(shape.width)));
  if (shape.group * shape.kv_heads != shape.heads || k.size(2) != shape.width || shape.width % 2 != 0 ||
      shape.values % 2 != 0 || rule.window > 0 || rule.soft_cap > 0 || (v.defined() && pass.cache))
    throw std::logic_error("attend_chosen: heads do not divide, or a window or a soft cap");
  if (composed(q)) return composed_attend_chosen(q, k, v, shape.values, chosen, rule, pass);
  return differentiable(work_of(q, k, shape, *chosen), {q, k, v}, [&](bool recorded) -> Computed {
    auto out = at::zeros({q.size(0), shape.heads * shape.values}, q.options());
    auto log_sums = at::empty({q.size(0), shape.heads}, at::TensorOptions(at::kFloat));
    std::optional<Stored> keys;
    if (pass.cache) {
      if (recorded) throw std::logic_error("attend: a cache is for generation, without gradients");
      auto& cache = *pass.cache;
      const auto layer = static_cast<size_t>(rule.layer);
      auto* scales = cache.key_scales.empty() ? nullptr : &cache.key_scales.at(layer);
      store_in_cache(k, pass.cache_rows, cache.keys.at(layer), scales);
      keys.emplace(cache.keys.at(layer), scales ? *scales : Tensor());
    } else {
      keys.emplace(k);
    }
    const auto values = v.defined() ? Stored(v) : *keys;
    const auto slices = slices_of(*chosen);
    with_kernel(q.scalar_type(), [&](auto operand, const GemmKernel& kernel) {
      on_team(static_cast<int64_t>(slices.size()), [&](int64_t s) {
        const auto [begin, end] = slices[static_cast<size_t>(s)];
        each_query(*chosen, begin, end, [&](int64_t query, const int32_t* rows, int64_t count) {
          for (int64_t head = 0; head < shape.kv_heads; ++head)
            forward<decltype(operand)>(kernel, q, {*keys, values}, shape, {query, head, count, rows}, out,
                                       log_sums.mutable_data_ptr<float>());
        });
      });
    });
    if (!recorded) return {out, nullptr};
    return {out,
            [=, q = q.detach(), k = k.detach(), v = v.defined() ? v.detach() : Tensor(),
             out = out.detach()](const Tensor& dout) -> Tensors {
              auto dq = at::zeros(q.sizes(), q.options());
              const Saved saved{q, dout, out, log_sums.const_data_ptr<float>()};
              const Stored stored_keys(k), stored_values(v.defined() ? v : k);
              const auto parts = slices_of(*chosen);
              std::vector<Tensor> dk, dv;  // of each thread; added in order, whoever was first
              for (size_t i = 0; i < parts.size(); ++i) {
                dk.push_back(at::zeros(k.sizes(), at::TensorOptions(at::kFloat)));
                dv.push_back(v.defined() ? at::zeros(v.sizes(), at::TensorOptions(at::kFloat)) : Tensor());
              }
              with_kernel(q.scalar_type(), [&](auto operand, const GemmKernel& kernel) {
                on_team(static_cast<int64_t>(parts.size()), [&](int64_t s) {
                  const auto at = static_cast<size_t>(s);
                  auto* own_dk = dk[at].mutable_data_ptr<float>();
                  auto* own_dv = dv[at].defined() ? dv[at].mutable_data_ptr<float>() : nullptr;
                  const auto [begin, end] = parts[at];
                  each_query(*chosen, begin, end, [&](int64_t query, const int32_t* rows, int64_t count) {
                    for (int64_t head = 0; head < shape.kv_heads; ++head)
                      backward<decltype(operand)>(kernel, saved, {stored_keys, stored_values}, shape,
                                                  {query, head, count, rows}, dq, own_dk, own_dv);
                  });
                });
              });
              const auto sum = [&](std::vector<Tensor>& all, const Tensor& like) {
                if (!like.defined()) return Tensor();
                auto first = all.empty() ? at::zeros(like.sizes(), at::TensorOptions(at::kFloat)) : all[0];
                for (size_t i = 1; i < all.size(); ++i) first.add_(all[i]);
                return first.to(like.scalar_type());
              };
              return {dq, sum(dk, k), sum(dv, v)};
            }};
  });
}

}  // namespace retort
