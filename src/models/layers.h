// What the families share: attention, the gated feed-forward layer, and a stack of equal layers.
// N tokens of a forest, E hidden, H query heads, K key/value heads, D head width, F intermediate.
#pragma once
#include <memory>
#include <optional>

#include "models/model.h"
#include "models/rotary.h"
#include "ops/attend.h"
#include "ops/gated.h"
#include "ops/keep_rows.h"
#include "ops/norm.h"

namespace retort {

// Where a family takes its weights from, by checkpoint name; every shape is checked against what the config
// asks for.
class Parts {
 public:
  Parts(const ModelConfig& model_config, const std::function<Linear(const std::string& name)>& take_linear,
        const std::function<Tensor(const std::string& name)>& take_vector,
        const std::function<Weight(const std::string& name)>& take_matrix)
      : config(model_config),
        take_linear_(take_linear),
        take_vector_(take_vector),
        take_matrix_(take_matrix) {}

  Linear linear(const std::string& name, int64_t out, int64_t in,
                bool bias = false) const;  // name without ".weight"
  Linear router(const std::string& name, int64_t experts,
                int64_t in) const;  // fp32 in every file and precision
  Norm norm(const std::string& name, int64_t width, double offset = 0) const;
  Weight matrix(const std::string& name, int64_t rows, int64_t columns) const;

  const ModelConfig& config;

 private:
  const std::function<Linear(const std::string&)>& take_linear_;
  const std::function<Tensor(const std::string&)>& take_vector_;
  const std::function<Weight(const std::string&)>& take_matrix_;
};

std::string layer_name(int64_t index);  // "model.layers.3"
std::shared_ptr<const Rotary> make_rotary(const ModelConfig& config);
AttendRule attend_rule(const ModelConfig& config, int64_t layer);  // with the window where this layer has one

Tensor split_heads(const Tensor& x, int64_t heads);  // [N,H*D] -> [N,H,D]

struct Attention {
  Linear q_proj, k_proj, v_proj, o_proj;
  std::optional<Norm> q_norm, k_norm;    // before the rotation: over D (Qwen 3, Gemma 3), or over all heads
  bool norms_span_heads = false;         // at once (Olmo 2 and 3)
  std::shared_ptr<const Rotary> rotary;  // nullptr: this layer rotates none
  AttendRule rule;
  int64_t heads = 0, kv_heads = 0;

  Attention(const Parts& parts, int64_t layer, std::shared_ptr<const Rotary> layer_rotary);
  Tensor forward(const Tensor& x, const Pass& pass) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) {
    visit(q_proj), visit(k_proj), visit(v_proj), visit(o_proj);
  }
};

struct GatedMlp {
  Linear gate_proj, up_proj, down_proj;
  Activation activation;

  GatedMlp(const Parts& parts, int64_t layer, Activation how);
  Tensor forward(const Tensor& x, const Pass& pass) const;  // [N,E] -> [N,E]
  template <class Visit> void linears(Visit&& visit) { visit(gate_proj), visit(up_proj), visit(down_proj); }
};

// A model whose layers are all of one kind. `Layer` has forward(x, pass), linears(visit) and
// norms(visit(name, Norm&)), names being those inside the layer: "input_layernorm"; a layer with experts also
// has router(), which is none of its linears.
template <class Layer> class Stack : public Model {
 public:
  Stack(const Parts& parts, double norm_offset) : Model(parts.config) {
    embedding = parts.matrix("model.embed_tokens.weight", config.vocabulary, config.hidden);
    norm = parts.norm("model.norm", config.hidden, norm_offset);
    head.soft_cap = config.final_soft_cap;
    if (config.tied_head) {
      head.linear.name = "lm_head";
      head.linear.weight = embedding;
    } else {
      head.linear = parts.linear("lm_head", config.vocabulary, config.hidden);
    }
  }
  Tensor layer(int64_t index, const Tensor& x, const Pass& pass) const override {
    return layers.at(static_cast<size_t>(index)).forward(x, pass);
  }
  // A head is linear, so that what divides its results may as well divide what enters it.
  Tensor finish(const Tensor& x, const Pass&) const override {
    const auto normed = rms_norm(x, norm);
    return config.logit_divisor == 1 ? normed : normed / config.logit_divisor;
  }
  std::vector<Linear*> linears() override {
    std::vector<Linear*> all;
    for (auto& each : layers) each.linears([&](Linear& linear) { all.push_back(&linear); });
    return all;
  }
  std::vector<NamedTensor> vectors() override {
    std::vector<NamedTensor> all;
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto prefix = layer_name(static_cast<int64_t>(i)) + ".";
      layers[i].norms([&](const char* name, Norm& part) {
        all.push_back({prefix + name + ".weight", &part.weight});
      });
      if constexpr (requires { layers[i].router(); })
        all.push_back({layers[i].router().name + ".weight", &layers[i].router().weight.dense});
      layers[i].linears([&](Linear& linear) {
        if (linear.bias.defined()) all.push_back({linear.name + ".bias", &linear.bias});
      });
    }
    all.push_back({"model.norm.weight", &norm.weight});
    return all;
  }

  std::vector<Layer> layers;
  Norm norm;
};

// A stack of layers made from (parts, index, the rotation that they share).
template <class Layer> std::unique_ptr<Model> stack_of(const Parts& parts, double norm_offset) {
  auto model = std::make_unique<Stack<Layer>>(parts, norm_offset);
  const auto rotary = make_rotary(parts.config);
  for (int64_t i = 0; i < parts.config.layers; ++i) model->layers.emplace_back(parts, i, rotary);
  return model;
}

}  // namespace retort
