#include "models/tensor_names.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "models/families.h"

namespace retort {
namespace {

ModelConfig shape(const std::string& family) {
  ModelConfig config;
  config.family = family;
  config.vocabulary = 8, config.hidden = 4, config.layers = 2, config.heads = 2, config.kv_heads = 1,
  config.head_dim = 2, config.intermediate = 6, config.context = 16;
  config.experts = 3, config.experts_per_token = 1, config.expert_intermediate = 6;
  return config;
}

TEST(TensorNames, AreMadeFromTheRoleInBothFormats) {
  const auto llama = shape("llama"), mixtral = shape("mixtral"), moe = shape("qwen3_moe"),
             gemma = shape("gemma2");
  EXPECT_EQ(tensor_name(llama, {1, Role::q}), "model.layers.1.self_attn.q_proj.weight");
  EXPECT_EQ(tensor_name(llama, {1, Role::k, -1, true}), "model.layers.1.self_attn.k_proj.bias");
  EXPECT_EQ(gguf_tensor(llama, {1, Role::k, -1, true}).name, "blk.1.attn_k.bias");
  EXPECT_EQ(gguf_tensor(llama, {1, Role::q}).permuted_heads, 2);
  EXPECT_EQ(gguf_tensor(llama, {1, Role::k}).permuted_heads, 1);
  EXPECT_EQ(gguf_tensor(llama, {1, Role::v}).permuted_heads, 0);
  EXPECT_EQ(gguf_tensor(shape("qwen3"), {1, Role::q}).permuted_heads, 0);
  EXPECT_EQ(module_name(llama, {.role = Role::head}), "lm_head");
  EXPECT_EQ(tensor_name(llama, {.role = Role::final_norm}), "model.norm.weight");
  EXPECT_EQ(gguf_tensor(llama, {.role = Role::embedding}).name, "token_embd.weight");
  // The same word for two roles, and two words for the same role.
  EXPECT_EQ(tensor_name(llama, {0, Role::mlp_norm}), "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(tensor_name(gemma, {0, Role::after_attention_norm}),
            "model.layers.0.post_attention_layernorm.weight");
  EXPECT_EQ(gguf_tensor(llama, {0, Role::mlp_norm}).name, "blk.0.ffn_norm.weight");
  EXPECT_EQ(gguf_tensor(gemma, {0, Role::mlp_norm}).name, "blk.0.ffn_norm.weight");
  EXPECT_TRUE(gguf_tensor(gemma, {0, Role::mlp_norm}).plus_one);
  EXPECT_TRUE(gguf_tensor(gemma, {.role = Role::final_norm}).plus_one);
  EXPECT_FALSE(gguf_tensor(gemma, {0, Role::q}).plus_one);
  EXPECT_FALSE(gguf_tensor(llama, {0, Role::mlp_norm}).plus_one);
  EXPECT_EQ(module_name(moe, {1, Role::up, 2}), "model.layers.1.mlp.experts.2.up_proj");
  EXPECT_EQ(module_name(mixtral, {1, Role::up, 2}), "model.layers.1.block_sparse_moe.experts.2.w3");
  EXPECT_EQ(field_name(mixtral, {1, Role::down, 0}), "w2");
  EXPECT_EQ(gguf_tensor(mixtral, {1, Role::up, 2}).name, "blk.1.ffn_up_exps.weight");
  EXPECT_EQ(gguf_tensor(mixtral, {1, Role::up, 2}).expert, 2);
  EXPECT_EQ(module_name(mixtral, {1, Role::router}), "model.layers.1.block_sparse_moe.gate");
  EXPECT_EQ(gguf_tensor(moe, {1, Role::router}).name, "blk.1.ffn_gate_inp.weight");
  EXPECT_EQ(stack_name(moe, {1, Role::up, 2}), "model.layers.1.mlp.experts.gate_up_proj");
  EXPECT_EQ(stack_name(moe, {1, Role::down, 2}), "model.layers.1.mlp.experts.down_proj");
}

std::string refusal(const std::function<void()>& what) {
  try {
    what();
  } catch (const std::logic_error& error) { return error.what(); }
  return "";
}

TEST(TensorNames, OfNoRoleOrOneThatTheFamilyHasNotAreAMistake) {
  const auto llama = shape("llama");
  EXPECT_NE(refusal([&] { tensor_name(llama, {1}); }).find("without a role"), std::string::npos);
  EXPECT_NE(refusal([&] { gguf_tensor(llama, {}); }).find("without a role"), std::string::npos);
  EXPECT_NE(refusal([&] {
              module_name(llama, {1, Role::after_mlp_norm});
            }).find("llama has no name"),
            std::string::npos);
}

// A family that is being written: one linear layer, at a place that its author chose.
struct MadeUpLayer {
  Linear only;
  Tensor forward(const Tensor& x, const Pass&) const { return x; }
  template <class Visit> void linears(Visit&& visit) { visit(only); }
  template <class Visit> void norms(Visit&&) {}
};

void build_with(const TensorPlace& place) {
  const auto config = shape("llama");
  const std::function linear = [&](const TensorPlace&) {
    Linear layer;
    layer.weight = dense_weight(at::zeros({config.vocabulary, config.hidden}));
    return layer;
  };
  const std::function vector = [&](const TensorPlace&) { return at::ones({config.hidden}); };
  const std::function matrix = [&](const TensorPlace& of) { return linear(of).weight; };
  const Parts parts(config, linear, vector, matrix);
  Stack<MadeUpLayer>(parts, 0, [&](int64_t index) {
    MadeUpLayer made;
    made.only.name = "model.layers.0.mlp.gate_proj";  // a name says nothing
    made.only.place = place;
    if (place.layer < 0) made.only.place.layer = index;
    return made;
  });
}

TEST(Roles, AModelWithALayerOfNoRoleIsNeverBuilt) {
  EXPECT_NE(refusal([] { build_with({}); }).find("without a role"), std::string::npos);
  EXPECT_NE(refusal([] {
              build_with({2, Role::gate});
            }).find("the model has 2 layers of 3 experts"),
            std::string::npos);
  EXPECT_NE(refusal([] {
              build_with({0, Role::gate, 3});
            }).find("the model has 2 layers of 3 experts"),
            std::string::npos);
  EXPECT_NE(refusal([] {
              build_with({0, Role::gate});
            }).find("two tensors have this place"),
            std::string::npos);
  EXPECT_EQ(refusal([] { build_with({-1, Role::gate}); }), "");
}

}  // namespace
}  // namespace retort
