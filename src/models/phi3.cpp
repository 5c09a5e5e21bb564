// Phi-3, 3.5 and 4 (arXiv:2404.14219, arXiv:2412.08905): Llama's layer with fused matrices, [q | k | v] and
// [gate | up] as rows of one. Phi-4-mini (arXiv:2503.01743) rotates three quarters of a head.
#include "models/gguf_config.h"
#include "models/hf_config.h"

namespace retort {
namespace {

struct Phi3Layer {
  Norm input_layernorm, post_attention_layernorm;
  Linear qkv_proj, o_proj;
  FusedMlp mlp;
  std::shared_ptr<const Rotary> rotary;
  AttendRule rule;
  int64_t heads, kv_heads, head_dim;

  Phi3Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> shared_rotary)
      : input_layernorm(parts.norm({index, Role::attention_norm}, parts.config.hidden)),
        post_attention_layernorm(parts.norm({index, Role::mlp_norm}, parts.config.hidden)),
        mlp(parts, index),
        rotary(std::move(shared_rotary)),
        rule(attend_rule(parts.config, index)),
        heads(parts.config.heads),
        kv_heads(parts.config.kv_heads),
        head_dim(parts.config.head_dim) {
    const auto& config = parts.config;
    qkv_proj = parts.linear({index, Role::qkv}, (heads + 2 * kv_heads) * head_dim, config.hidden);
    o_proj = parts.linear({index, Role::o}, config.hidden, heads * head_dim);
  }

  Tensor attention(const Tensor& x, const Pass& pass) const {
    const auto qkv = linear(x, qkv_proj, pass)
                         .split_with_sizes({heads * head_dim, kv_heads * head_dim, kv_heads * head_dim}, 1);
    const auto table = rotary->table(pass.positions);
    const auto q = rotate(split_heads(qkv[0], heads), pass.positions, table);     // [N,H,D]
    const auto k = rotate(split_heads(qkv[1], kv_heads), pass.positions, table);  // [N,K,D]
    return linear(keep_rows(attend(q, k, split_heads(qkv[2], kv_heads), rule, pass), pass), o_proj, pass);
  }
  Tensor forward(const Tensor& x, const Pass& pass) const {  // [N,E]
    const auto [h, normed] = add_rms_norm(keep_rows(x, pass), attention(rms_norm(x, input_layernorm), pass),
                                          post_attention_layernorm);
    return h + mlp.forward(normed, pass, pass.layer_result);
  }
  template <class Visit> void linears(Visit&& visit) { visit(qkv_proj), visit(o_proj), mlp.linears(visit); }
  template <class Visit> void norms(Visit&& visit) {
    visit(input_layernorm), visit(post_attention_layernorm);
  }
};

std::unique_ptr<Model> build(const Parts& parts) { return stack_of<Phi3Layer>(parts, 0); }

void from_hf(const HfConfig& config, ModelConfig& model) {
  model.rope = read_rope(config, model);
  read_windows(config, model, read_window(config, model), nullptr);
}

OrderedJson to_hf(const ModelConfig& config) {
  auto json = hf_sizes(config);
  add_hf_shape(config, json);
  add_hf_rope(config, json);
  add_hf_windows(config, true, json);
  return json;
}

void to_gguf(const ModelConfig&, GgufKeys& keys) { keys.attention(), keys.windows(), keys.scaling(); }

}  // namespace

const Family kPhi3 = {.name = "phi3",
                      .model_type = "phi3",
                      .hf_architecture = "Phi3ForCausalLM",
                      .gguf = "phi3",
                      .defaults = {.context = 4096,
                                   .original_context = 4096,
                                   .norm_epsilon = 1e-5,
                                   .bos = 1,
                                   .eos = 32000,
                                   .pad = 32000},
                      .fused_projections = true,
                      .partial_rotation = true,
                      .gguf_longrope = true,
                      .gguf_head_dim = false,
                      .from_hf = from_hf,
                      .to_hf = to_hf,
                      .to_gguf = to_gguf,
                      .build = build};

}  // namespace retort
