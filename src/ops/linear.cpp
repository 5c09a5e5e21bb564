#include "ops/linear.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/half.h"
#include "base/random.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"
#include "ops/gemm.h"
#include "ops/gradient_sink.h"
#include "ops/int8_gemm.h"
#include "ops/new_tensors.h"
#include "ops/team.h"

namespace retort {
namespace {

// x with entries dropped at `rate` and the rest divided by 1 - rate. The draw of (row, column) is 16 bits of
// a hash of (key, layer, row * width + column): the same in backward and in a recomputation, with nothing
// saved.
Tensor dropped(const Tensor& x, double rate, uint64_t key, const std::string& layer) {
  const Draws draws(key, layer);
  const auto threshold = static_cast<uint64_t>(std::lround(rate * 65536));
  const auto scale = static_cast<float>(1 / (1 - rate));
  const int64_t width = x.size(1);
  auto y = at::empty(x.sizes(), x.options());
  with_element(x.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    const auto* in = elements<Element>(x);
    auto* out = mutable_elements<Element>(y);
    over_range(x.size(0), 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * width; i < end * width;) {
        uint64_t bits = draws.bits(static_cast<uint64_t>(i / 4)) >> (i % 4 * 16);
        for (int64_t lane = i % 4; lane < 4 && i < end * width; ++lane, ++i, bits >>= 16) {
          const bool kept = (bits & 0xFFFF) >= threshold;
          if constexpr (std::is_same_v<Element, float>) out[i] = kept ? in[i] * scale : 0.0f;
          else out[i] = kept ? float_to_bf16(bf16_to_float(in[i]) * scale) : uint16_t{0};
        }
      }
    });
  });
  return y;
}

constexpr double kUndone = 1e-6;  // the share of ||W||^2 below which fp32 knows no digit of ||V||^2

// Row norms of V = W + s B A without forming it: ||W||^2 + 2 s <W A^T, B> + s^2 <B (A A^T), B>, row by row.
// Where B A undoes nearly all of W that difference is rounding, below zero at times: such rows are formed.
// [out] fp32
Tensor direction_norms(const Weight& w, const Tensor& a, const Tensor& b, double s) {
  auto squares = at::empty({w.rows}, at::TensorOptions(at::kFloat));
  auto cross = at::empty({w.rows, a.size(0)}, at::TensorOptions(at::kFloat));
  for (int64_t first = 0; first < w.rows; first += 512) {  // 512 rows at a time in fp32
    const auto count = std::min<int64_t>(512, w.rows - first);
    const auto rows = widen_for_use(w, first, count, at::kFloat);
    squares.narrow(0, first, count).copy_(rows.square().sum(1));
    cross.narrow(0, first, count).copy_(at::linear(rows, a));
  }
  const auto update = at::mm(b, at::linear(a, a));
  const auto sum = squares + 2 * s * (cross * b).sum(1) + s * s * (update * b).sum(1);
  const auto norms = sum.clamp_min(0).sqrt();
  const auto undone = sum.le(kUndone * squares).logical_and_(squares.gt(0)).nonzero().squeeze(1);
  for (int64_t i = 0; i < undone.size(0); ++i) {
    const auto row = undone[i].item<int64_t>();
    norms[row].copy_(at::addmm(widen_for_use(w, row, 1, at::kFloat), b.narrow(0, row, 1), a, 1, s).norm());
  }
  return norms;
}

Operand operand_of(const Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat ? Operand::f32 : Operand::bf16;
}
GemmRows rows_of(const Tensor& matrix) {
  return {matrix.const_data_ptr(), matrix.stride(0), operand_of(matrix)};
}
GemmOutput into(Tensor& matrix, const float* bias = nullptr) {
  return {matrix.mutable_data_ptr(), matrix.stride(0), operand_of(matrix), bias, false};
}

// An fp32 parameter as the right operand.
GemmMatrix matrix_of(const Tensor& parameter, bool transposed, double scale = 1) {
  return gemm_matrix(parameter.const_data_ptr<float>(), parameter.size(0), parameter.size(1), transposed,
                     static_cast<float>(scale));
}

// What one layer needs for both directions. Parameters are dense: a leaf that is not is copied.
struct LayerPart {
  const Linear* layer = nullptr;
  std::string name;
  Weight weight;
  Tensor bias, a, b, magnitude, int8_scales;
  double scaling = 1, rate = 0;
  int64_t low_first = 0;  // its columns of `low`
  // DoRA: magnitude / norm [out] fp32 (1 for a row of zeros, which has no direction), norm, and x W^T +
  // s u B^T where the magnitude's gradient is wanted.
  Tensor size, norms, plain;

  bool left_out = false;  // nobody reads the product: zeros stand for it
  bool gone = false;      // the matrix

  void take_matrix() {
    auto base = base_matrix(*layer);
    weight = std::move(base.weight);
    int8_scales = std::move(base.int8_scales);
  }
  void let_matrix_go() {  // backward takes it again
    gone = true;
    weight = absent_weight(weight.type, weight.rows, weight.columns);
    int8_scales = Tensor();
  }
  bool adapted() const { return a.defined(); }
  bool dora() const { return magnitude.defined(); }
  const float* integer_scales() const {
    return int8_scales.defined() && !weight.trainable() ? int8_scales.const_data_ptr<float>() : nullptr;
  }
  int64_t rank() const { return adapted() ? a.size(0) : 0; }
};

LayerPart part_of(const Linear& layer, const Pass& pass, Wanted wanted) {
  LayerPart part;
  part.layer = &layer;
  part.name = layer.name;
  part.take_matrix();
  part.bias = layer.bias;
  if (layer.adapter) {
    const auto& adapter = *layer.adapter;
    part.a = adapter.a.contiguous();
    part.b = adapter.b.contiguous();
    part.magnitude = adapter.magnitude;
    part.scaling = adapter.scaling;
    part.rate = pass.training ? adapter.dropout : 0;
  }
  part.left_out = wanted == Wanted::gradients && !part.dora();
  return part;
}

// sum over n of rows of a and b: [na, nb] fp32, a [N,na] and b [N,nb].
Tensor product_over_rows(const GemmKernel& kernel, const Tensor& a, const Tensor& b) {
  auto out = at::empty({a.size(1), b.size(1)}, at::TensorOptions(at::kFloat));
  gemm_transposed(kernel, rows_of(a), a.size(1), rows_of(b), b.size(1), a.size(0), into(out));
  return out;
}

// scale * x^T of a few long rows.
Tensor transposed(const Tensor& x, float scale) {
  const int64_t few = x.size(0), many = x.size(1);
  auto y = at::empty({many, few}, x.options());
  const auto* in = x.const_data_ptr<float>();
  auto* out = y.mutable_data_ptr<float>();
  if (const auto& kernel = gemm_kernel(Operand::f32); few % kernel.lanes == 0) {  // by whole squares
    kernel.transpose(in, many * 4, few, many, out, few * 4);
    for (int64_t i = 0; i < many * few; ++i) out[i] *= scale;
    return y;
  }
  for (int64_t i = 0; i < many; ++i)
    for (int64_t j = 0; j < few; ++j) *out++ = scale * in[j * many + i];
  return y;
}

// z = x W^T + s u B^T, and what follows from it.
Tensor forward_part(const GemmKernel& kernel, const Tensor& x, const Tensor& low, LayerPart& part,
                    bool recorded) {
  if (part.left_out) return at::zeros({x.size(0), part.weight.rows}, x.options());
  auto y = at::empty({x.size(0), part.weight.rows}, x.options());
  std::vector<GemmTerm> terms{{rows_of(x), part.weight.operand(false), part.integer_scales()}};
  if (part.adapted())
    terms.push_back(
        {rows_of(low.narrow(1, part.low_first, part.rank())), matrix_of(part.b, false, part.scaling)});
  const auto bias = part.bias.defined() ? part.bias.to(at::kFloat).contiguous() : Tensor();
  gemm(kernel, terms, x.size(0),
       into(y, bias.defined() && !part.dora() ? bias.const_data_ptr<float>() : nullptr));
  if (!part.dora()) return y;
  // Magnitude times direction; the norm counts as a constant in backward (arXiv:2402.09353, section 4.3).
  part.norms = direction_norms(part.weight, part.a, part.b, part.scaling);
  part.size = at::where(part.norms.eq(0), at::ones_like(part.norms), part.magnitude / part.norms);
  if (recorded && part.magnitude.requires_grad()) part.plain = y;
  y = y * part.size.to(y.scalar_type());
  if (bias.defined()) y.add_(bias.to(y.scalar_type()));
  return y;
}

// What a unit of DoRA's magnitude adds to a row: 1 / ||V||, as size / magnitude where that has a value, and
// nothing to a row of zeros.
Tensor direction_scale(const LayerPart& part) {
  const auto scale = at::where(part.magnitude.eq(0), part.norms.reciprocal(), part.size / part.magnitude);
  return at::where(part.norms.eq(0), at::zeros_like(scale), scale);
}

// Gradients of one group of layers: [dx, then dweight (undefined where the sink took it), dbias, da, db,
// dmagnitude of each layer]. all_a: every layer's A below each other, where no dropout tells their inputs
// apart.
Tensors backward_parts(const GemmKernel& kernel, const Tensors& dys, const Tensor& x, const Tensor& low,
                       const Tensor& all_a, const std::vector<LayerPart>& parts, int64_t in, bool wants_x,
                       uint64_t dropout_key, GradientSink* sink) {
  constexpr size_t kEach = 5;
  Tensors gradients(1 + kEach * parts.size());
  Tensors dzs(parts.size());  // gradients of x W^T + s u B^T
  const auto n = [&] {
    for (const auto& dy : dys)
      if (dy.defined()) return dy.size(0);
    return int64_t{0};
  }();
  const auto options = [&] {
    for (const auto& dy : dys)
      if (dy.defined()) return dy.options();
    return at::TensorOptions();
  }();
  int64_t ranks = 0;
  for (const auto& part : parts) ranks += part.rank();
  auto v = ranks > 0 ? at::empty({n, ranks}, options) : Tensor();  // s dz B, beside each other like `low`
  std::vector<GemmTerm> dx_terms;
  Tensor dropped_dx;  // what comes through the adapters' dropout
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto& part = parts[i];
    const auto& dy = dys[i];
    auto* gradient = &gradients[1 + kEach * i];
    if (!dy.defined()) {
      if (part.adapted()) v.narrow(1, part.low_first, part.rank()).zero_();
      continue;
    }
    if (part.bias.defined() && part.bias.requires_grad()) gradient[1] = dy.sum(0, false, at::kFloat);
    auto& dz = dzs[i];
    dz = dy;
    if (part.dora()) {
      if (part.plain.defined())
        gradient[4] =
            (dy.to(at::kFloat) * part.plain).sum(0) * direction_scale(part);  // dm = sum_n dy z / ||V||
      dz = dy * part.size.to(dy.scalar_type());
    }
    dx_terms.push_back({rows_of(dz), part.weight.operand(true), part.integer_scales()});
    if (part.weight.trainable()) {
      auto of_weight = product_over_rows(kernel, dz, x).to(part.weight.dense.scalar_type());
      if (!sink || !sink->take(part.weight.dense, of_weight)) gradient[0] = std::move(of_weight);
    }
    if (!part.adapted()) continue;
    auto v_part = v.narrow(1, part.low_first, part.rank());
    const GemmTerm v_term{rows_of(dz), matrix_of(part.b, true, part.scaling)};
    gemm(kernel, {&v_term, 1}, n, into(v_part));
    if (part.b.requires_grad())
      gradient[3] = transposed(product_over_rows(kernel, low.narrow(1, part.low_first, part.rank()), dz),
                               static_cast<float>(part.scaling));
    if (part.rate > 0) {
      if (part.a.requires_grad())
        gradient[2] = product_over_rows(kernel, v_part, dropped(x, part.rate, dropout_key, part.name));
      if (!wants_x) continue;
      auto through = at::empty({n, in}, options);
      const GemmTerm term{rows_of(v_part), matrix_of(part.a, true)};
      gemm(kernel, {&term, 1}, n, into(through));
      through = dropped(through, part.rate, dropout_key, part.name);
      dropped_dx = dropped_dx.defined() ? dropped_dx.add_(through) : through;
    } else if (!all_a.defined()) {
      if (part.a.requires_grad()) gradient[2] = product_over_rows(kernel, v_part, x);
      dx_terms.push_back({rows_of(v_part), matrix_of(part.a, true)});
    }
  }
  if (all_a.defined()) dx_terms.push_back({rows_of(v), matrix_of(all_a, true)});
  const bool wants_a = std::any_of(parts.begin(), parts.end(), [](const LayerPart& part) {
    return part.adapted() && part.a.requires_grad();
  });
  if (wants_a && all_a.defined()) {
    const auto da = product_over_rows(kernel, v, x);  // x is packed once for all layers
    for (size_t i = 0; i < parts.size(); ++i)
      if (dys[i].defined() && parts[i].adapted() && parts[i].a.requires_grad())
        gradients[1 + kEach * i + 2] = da.narrow(0, parts[i].low_first, parts[i].rank());
  }
  if (wants_x) {
    gradients[0] = at::empty({n, in}, options);
    gemm(kernel, dx_terms, n, into(gradients[0]));
    if (dropped_dx.defined()) gradients[0].add_(dropped_dx);
  }
  return gradients;
}

OperationWork work_of(const std::vector<LayerPart>& parts, const Tensor& x) {
  OperationWork work{"linear", 0, bytes_of(x), 0, bytes_of(x)};
  const auto n = static_cast<double>(x.size(0)), element = static_cast<double>(x.element_size());
  const bool wants_x = x.requires_grad();
  bool saves_x = false;
  for (const auto& part : parts) {
    const auto in = static_cast<double>(part.weight.columns), out = static_cast<double>(part.weight.rows);
    const auto product = 2 * n * in * out, low = 2 * n * static_cast<double>(part.rank()) * (in + out);
    work.flop += part.left_out ? 2 * n * static_cast<double>(part.rank()) * in : product + low;
    work.backward_flop += (wants_x ? product + low : low / 2) + (part.weight.trainable() ? product : 0) +
                          (part.adapted() && part.a.requires_grad() ? low : 0);
    const auto weights =
        static_cast<double>(part.weight.stored_bytes()) + bytes_of(part.a) + bytes_of(part.b);
    work.bytes += (part.left_out ? bytes_of(part.a) : weights) + n * out * element;
    work.backward_bytes += weights * (part.weight.trainable() ? 2 : 1) + n * out * element;
    saves_x = saves_x || part.weight.trainable() || part.adapted();
  }
  if (wants_x && saves_x) work.backward_bytes += bytes_of(x);
  return work;
}

}  // namespace

int64_t TrainedRows::find(int64_t id) const {
  const auto found = std::lower_bound(ids.begin(), ids.end(), id);
  return found == ids.end() || *found != id ? -1 : found - ids.begin();
}

BaseMatrix base_matrix(const Linear& layer) {
  if (!layer.source) return {layer.weight, layer.int8_scales};
  const NewTensors in_memory;  // it stays for others
  return layer.source->take(layer);
}

Tensor int8_row_scales(const Weight& weight) {
  if (!int8_kernel()) throw Failure("compute: int8 needs a CPU with AVX-512 VNNI; set auto, f32 or bf16");
  const at::NoGradGuard no_graph;
  auto scales = at::empty({weight.rows}, at::TensorOptions(at::kFloat));
  for (int64_t first = 0; first < weight.rows; first += 512) {
    const auto count = std::min<int64_t>(512, weight.rows - first);
    scales.narrow(0, first, count)
        .copy_(widen_for_use(weight, first, count, at::kFloat).abs().amax(1).div_(127));
  }
  return scales;
}

namespace {

std::vector<Tensor> results_of(const Tensor& input, const std::vector<const Linear*>& layers,
                               const Pass& pass, Wanted wanted) {
  if (pass.observe)
    for (const auto* layer : layers) pass.observe(*layer, input);
  const auto x = input.contiguous();
  if (composed(x)) {
    std::vector<Tensor> values;
    for (const auto* layer : layers) values.push_back(composed_linear(x, *layer, pass, wanted));
    return values;
  }
  std::vector<LayerPart> parts;
  Tensors inputs{x};
  int64_t ranks = 0;
  for (const auto* layer : layers) {
    auto& part = parts.emplace_back(part_of(*layer, pass, wanted));
    part.low_first = ranks;
    ranks += part.rank();
    inputs.insert(inputs.end(), {part.weight.dense, part.bias, part.a, part.b, part.magnitude});
  }
  return differentiable_many(work_of(parts, x), inputs, [&](bool recorded) -> ManyComputed {
    const auto& kernel = gemm_kernel(operand_of(x));
    auto low =
        ranks > 0 ? at::empty({x.size(0), ranks}, x.options()) : Tensor();  // dropout(x) A^T of each layer
    Tensors values, as;
    for (const auto& part : parts)
      if (part.adapted() && part.rate == 0) as.push_back(part.a);
    Tensor all_a;
    if (!as.empty() &&
        std::none_of(parts.begin(), parts.end(), [](const LayerPart& part) { return part.rate > 0; })) {
      all_a = as.size() == 1 ? as[0].detach() : at::cat(as);
      const GemmTerm term{rows_of(x), matrix_of(all_a, false)};
      gemm(kernel, {&term, 1}, x.size(0), into(low));
    }
    for (auto& part : parts) {
      if (part.adapted() && !all_a.defined()) {
        const auto kept = part.rate > 0 ? dropped(x, part.rate, pass.dropout_key, part.name) : x;
        auto low_part = low.narrow(1, part.low_first, part.rank());
        const GemmTerm term{rows_of(kept), matrix_of(part.a, false)};
        gemm(kernel, {&term, 1}, x.size(0), into(low_part));
      }
      values.push_back(forward_part(kernel, x, low, part, recorded));
    }
    if (!recorded) return {values, nullptr};
    for (auto& part : parts)
      if (pass.lets_matrices_go && part.layer->source) part.let_matrix_go();
    const bool needs_x = std::any_of(parts.begin(), parts.end(), [](const LayerPart& part) {
      return part.weight.trainable() || (part.adapted() && part.a.requires_grad());
    });
    return {values, [=, in = x.size(1), wants_x = x.requires_grad(), saved = needs_x ? x.detach() : Tensor(),
                     key = pass.dropout_key, sink = pass.gradients, &kernel](const Tensors& dys) {
              auto whole = parts;
              for (auto& part : whole)
                if (part.gone) part.take_matrix();
              return backward_parts(kernel, dys, saved, low, all_a, whole, in, wants_x, key, sink);
            }};
  });
}

// The results of trained rows in the place of the matrix's own, which get no gradient then.
Tensor with_trained_rows(const Tensor& y, const Tensor& x, const TrainedRows& rows) {
  const auto ids = list_on(y, rows.ids);
  return y.index_copy(1, ids, at::mm(x, brought(rows.values, x.device(), x.scalar_type()).t()));
}

}  // namespace

std::vector<Tensor> linear_group(const Tensor& x, const std::vector<const Linear*>& layers,
                                 const Pass& pass) {
  return results_of(x, layers, pass, Wanted::value);
}

Tensor linear(const Tensor& x, const Linear& layer, const Pass& pass, Wanted wanted) {
  const auto y = results_of(x, {&layer}, pass, wanted)[0];
  return layer.rows ? with_trained_rows(y, x, *layer.rows) : y;
}

}  // namespace retort
