#include "models/layers.h"

#include "base/error.h"

namespace retort {
namespace {

void require_shape(const std::string& name, int64_t rows, int64_t columns, int64_t want_rows,
                   int64_t want_columns) {
  if (rows != want_rows || columns != want_columns)
    throw FormatError(fmt::format("{}: shape is [{}, {}], the model's configuration asks for [{}, {}]",
                                  printable(name), rows, columns, want_rows, want_columns));
}

const std::function<Linear(const TensorPlace&)> kNoLinear;
const std::function<Tensor(const TensorPlace&)> kNoVector;
const std::function<Weight(const TensorPlace&)> kNoMatrix;

}  // namespace

Parts::Parts(const ModelConfig& model_config) : Parts(model_config, kNoLinear, kNoVector, kNoMatrix) {}

Linear Parts::linear(const TensorPlace& place, int64_t out, int64_t in, bool bias) const {
  const auto name = module_name(config, place);
  Linear layer;
  if (take_linear_) {
    layer = take_linear_(place);
  } else {
    layer.weight = absent_weight(WeightType::bf16, out, in);
    if (bias) layer.bias = at::zeros({out}, at::TensorOptions(at::kFloat));
  }
  layer.name = name;
  layer.place = place;
  require_shape(name + ".weight", layer.weight.rows, layer.weight.columns, out, in);
  // AutoGPTQ wrote a bias for layers that have none; transformers passes over it.
  if (!bias && config.four_bit && layer.bias.defined()) {
    if (at::count_nonzero(layer.bias).item<int64_t>() > 0)
      throw FormatError(fmt::format("{}.bias: holds numbers, and the model's configuration asks for none",
                                    printable(name)));
    layer.bias = Tensor();
  }
  if (bias && !layer.bias.defined())
    throw FormatError(
        fmt::format("{}.bias: missing, but the model's configuration asks for it", printable(name)));
  if (!bias && layer.bias.defined())
    throw FormatError(fmt::format(
        "{}.bias: is in the file, but the model's configuration does not ask for it", printable(name)));
  if (layer.bias.defined() && (layer.bias.dim() != 1 || layer.bias.numel() != out))
    throw FormatError(
        fmt::format("{}.bias: {} values, expected {}", printable(name), layer.bias.numel(), out));
  return layer;
}

Linear Parts::router(int64_t index) const {
  Linear layer;
  layer.place = {index, Role::router};
  layer.name = module_name(config, layer.place);
  auto matrix = take_vector_ ? take_vector_(layer.place)
                             : at::zeros({config.experts, config.hidden}, at::TensorOptions(at::kFloat));
  if (matrix.dim() != 2)
    throw FormatError(
        fmt::format("{}.weight: {} dimensions, expected a matrix", printable(layer.name), matrix.dim()));
  require_shape(layer.name + ".weight", matrix.size(0), matrix.size(1), config.experts, config.hidden);
  layer.weight = dense_weight(matrix);
  return layer;
}

Norm Parts::norm(const TensorPlace& place, int64_t width, double offset) const {
  return {vector(place, width), config.norm_epsilon, offset, place};
}

Tensor Parts::vector(const TensorPlace& place, int64_t width) const {
  auto values = take_vector_ ? take_vector_(place) : at::zeros({width}, at::TensorOptions(at::kFloat));
  if (values.dim() != 1 || values.size(0) != width)
    throw FormatError(fmt::format("{}: {} values, the model's configuration asks for {}",
                                  printable(tensor_name(config, place)), values.numel(), width));
  return values;
}

Linear Parts::embedding() const {
  Linear table;
  table.place = {.role = Role::embedding};
  table.name = module_name(config, table.place);
  auto& weight = table.weight;
  weight = take_matrix_ ? take_matrix_(table.place)
                        : absent_weight(WeightType::bf16, config.vocabulary, config.hidden);
  require_shape(tensor_name(config, table.place), weight.rows, weight.columns, config.vocabulary,
                config.hidden);
  return table;
}

std::shared_ptr<const Rotary> make_rotary(const ModelConfig& config) {
  return std::make_shared<Rotary>(config.rope, config.head_dim, config.context);
}

AttendRule attend_rule(const ModelConfig& config, int64_t layer) {
  const bool sliding = config.sliding_window > 0 && (config.sliding_layers.empty() ||
                                                     config.sliding_layers.at(static_cast<size_t>(layer)));
  return {config.attention_scale, config.attention_soft_cap, sliding ? config.sliding_window : 0, layer};
}

Tensor split_heads(const Tensor& x, int64_t heads) { return x.view({x.size(0), heads, x.size(1) / heads}); }

Attention::Attention(const Parts& parts, int64_t layer, std::shared_ptr<const Rotary> layer_rotary)
    : rotary(std::move(layer_rotary)),
      rule(attend_rule(parts.config, layer)),
      heads(parts.config.heads),
      kv_heads(parts.config.kv_heads),
      growth(parts.config.rope) {
  const auto& config = parts.config;
  const auto all = heads * config.head_dim, shared = kv_heads * config.head_dim;
  q_proj = parts.linear({layer, Role::q}, all, config.hidden, config.attention_bias);
  k_proj = parts.linear({layer, Role::k}, shared, config.hidden, config.attention_bias);
  v_proj = parts.linear({layer, Role::v}, shared, config.hidden, config.attention_bias);
  o_proj = parts.linear({layer, Role::o}, config.hidden, all, config.output_bias);
}

Tensor QueryGrowth::grown(const Tensor& q, const Tensor& positions) const {
  if (beta == 0 || positions.numel() == 0 || positions.max().item<int64_t>() < places) return q;
  const auto times = at::floor(positions.to(at::kFloat) / static_cast<double>(places));
  const auto scale = 1 + beta * at::log(1 + times);
  return q * scale.view({-1, 1, 1}).to(q.device(), q.scalar_type());
}

Tensor Attention::forward(const Tensor& x, const Pass& pass) const {  // x [N,E]
  const auto qkv = linear_group(x, {&q_proj, &k_proj, &v_proj}, pass);
  const auto normed = [&](const Tensor& part, const std::optional<Norm>& norm, int64_t count) {
    if (norm && norms_span_heads) return split_heads(rms_norm(part, *norm), count);
    const auto split = split_heads(part, count);
    return norm ? rms_norm(split, *norm) : split;
  };
  auto q = normed(qkv[0], q_norm, heads);        // [N,H,D]
  auto k = normed(qkv[1], k_norm, kv_heads);     // [N,K,D]
  const auto v = split_heads(qkv[2], kv_heads);  // [N,K,D]
  if (rotary) {
    const auto table = rotary->table(pass.positions);
    q = rotate(q, pass.positions, table, rotated);
    k = rotate(k, pass.positions, table, rotated);
  }
  q = growth.grown(q, pass.positions);
  return linear(keep_rows(attend(q, k, v, rule, pass), pass), o_proj,
                pass);  // [N,E], in the last layer of pass.rows
}

GatedMlp::GatedMlp(const Parts& parts, int64_t layer, Activation how, int64_t width, const GatedRoles& roles)
    : activation(how) {
  const auto& config = parts.config;
  gate_proj = parts.linear({layer, roles.gate}, width, config.hidden, config.mlp_bias);
  up_proj = parts.linear({layer, roles.up}, width, config.hidden, config.mlp_bias);
  down_proj = parts.linear({layer, roles.down}, config.hidden, width, config.mlp_bias);
}

Tensor GatedMlp::forward(const Tensor& x, const Pass& pass, Wanted wanted) const {
  const auto gate_up = linear_group(x, {&gate_proj, &up_proj}, pass);  // two of [N,F]
  return linear(gated(gate_up[0], gate_up[1], activation), down_proj, pass, wanted);
}

FusedMlp::FusedMlp(const Parts& parts, int64_t layer) {
  const auto& config = parts.config;
  gate_up_proj = parts.linear({layer, Role::gate_up}, 2 * config.intermediate, config.hidden);
  down_proj = parts.linear({layer, Role::down}, config.hidden, config.intermediate);
}

Tensor FusedMlp::forward(const Tensor& x, const Pass& pass, Wanted wanted) const {
  const auto gate_up = linear(x, gate_up_proj, pass).chunk(2, 1);  // two of [N,F]
  return linear(gated(gate_up[0], gate_up[1], Activation::silu), down_proj, pass, wanted);
}

}  // namespace retort
