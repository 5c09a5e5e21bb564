#include "plan/shape_plan.h"

#include <gtest/gtest.h>

#include "models/layer_stream.h"
#include "models/read_config.h"
#include "ops/use_kernel.h"
#include "plan/known_models.h"
#include "plan/predict.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::filesystem::path golden(const std::string& family) {
  return std::filesystem::path(source_dir()) / "tests/golden/models" / family;
}

ModelConfig config_of(const std::string& text) {
  return config_from_hf(Json::parse(text), "config.json", true);
}

// Llama 3.1 8B, as Meta published it.
constexpr auto kLlama8B = R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096,
  "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
  "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
  "tie_word_embeddings": false})";

}  // namespace

TEST(ShapePlan, AShapeIsThatOfTheFile) {
  for (const auto* family : {"llama",        "llama_bias",
                             "gemma2",       "gemma3",
                             "qwen2",        "qwen3",
                             "mistral",      "olmo2",
                             "olmo3",        "phi3",
                             "phi4_mini",    "smollm3",
                             "granite",      "mixtral",
                             "qwen3_moe",    "deepseek_v3",
                             "deepseek_v32", "deepseek_v32_sparse",
                             "deepseek_v2",  "glm4_moe_lite_mixed",
                             "kimi_k2",      "mistral4"}) {
    ModelSpec spec;
    spec.path = golden(family).string();
    spec.schedule = "layers", spec.memory = "1MiB";
    const auto loaded = load_weights(spec);
    const auto shape = build_shape(loaded.model->config);
    const auto found = shape->linears(), there = loaded.model->linears();
    ASSERT_EQ(found.size(), there.size()) << family;
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i]->name, there[i]->name);
      EXPECT_EQ(found[i]->weight.rows, there[i]->weight.rows) << family << " " << found[i]->name;
      EXPECT_EQ(found[i]->weight.columns, there[i]->weight.columns) << family << " " << found[i]->name;
    }
    EXPECT_EQ(shape->vectors().size(), loaded.model->vectors().size()) << family;
    // Bytes that a pass reads, as the file's own types have them.
    EXPECT_EQ(shape_of(*shape, there[0]->weight.type, {}).layer_bytes,
              static_cast<double>(loaded.model->stream()->budget().stored))
        << family;
  }
}

TEST(ShapePlan, Llama8BHasItsPublishedNumbers) {
  const auto model = build_shape(config_of(kLlama8B));
  const auto shape = shape_of(*model, WeightType::bf16, {});
  EXPECT_EQ(shape.parameters, 8030261248.0);  // its model card
  EXPECT_EQ(shape.active, shape.parameters);
  // 6.98 G weights of 2 bytes in 32 layers; by hand.
  EXPECT_EQ(shape.layer_bytes, 2.0 * 32 * (2.0 * 4096 * 4096 + 2.0 * 4096 * 1024 + 3.0 * 4096 * 14336));
  EXPECT_EQ(shape.largest_layer, shape.layer_bytes / 32);
  EXPECT_EQ(shape.linear_flop,
            2 * (32 * (2.0 * 4096 * 4096 + 2.0 * 4096 * 1024 + 3.0 * 4096 * 14336) + 128256.0 * 4096));
  // LoRA of rank 16 on all seven: 41.9 million numbers, as PEFT counts.
  EXPECT_EQ(shape.trained_numbers, 41943040.0);
}

TEST(ShapePlan, DeepseekV3HasItsPublishedNumbers) {
  const auto config = config_from_hf(known_config("deepseek-v3").value(), "config.json", true);
  const auto model = build_shape(config);
  const auto shape = shape_of(*model, WeightType::f8_e4m3, {});
  // 684,489,845,504 in the published files, of which the MTP layer has 13,463,426,304.
  EXPECT_EQ(shape.parameters, 671026419200.0);
  EXPECT_NEAR(shape.active, 37.55e9, 0.01e9);  // "37B activated"; the embedding counts here
  // Attention in five matrices and the shared expert, in 58 layers.
  EXPECT_EQ(shape.before_experts_flop,
            2 * 58 * (3.0 * 7168 * 2048 + 7168.0 * (1536 + 576 + 16384) + 1536.0 * 24576 + 512.0 * 32768));
  // A layer of 256 experts of 3 x 7168 x 2048, and one that every token sees; attention in five matrices.
  EXPECT_EQ(shape.largest_layer,
            257.0 * 3 * 7168 * 2048 + 7168.0 * (1536 + 576 + 16384) + 1536.0 * 24576 + 512.0 * 32768);
}

// Totals and what a token uses, in 1e9 as their papers and cards say: V2 236 and 21, V2-Lite 15.7, Moonlight
// 16 and 3, Kimi K2 1,000 and 32, GLM-4.7-Flash 30 and 3, Mistral Small 4 119 (embedding and head are in both
// here).
TEST(ShapePlan, OthersWithLatentAttentionHaveTheirPublishedNumbers) {
  struct Published {
    const char* config;
    double parameters, active;
  };
  for (const auto& [config, parameters, active] : {
           Published{R"({"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 5120,
             "num_hidden_layers": 60, "num_attention_heads": 128, "q_lora_rank": 1536,
             "intermediate_size": 12288,
             "moe_intermediate_size": 1536, "n_routed_experts": 160, "n_shared_experts": 2,
             "num_experts_per_tok": 6, "first_k_dense_replace": 1, "n_group": 8, "topk_group": 3,
             "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0, "norm_topk_prob": false})",
                     235741434880, 21375800320},
           Published{R"({"model_type": "deepseek_v2", "vocab_size": 102400, "hidden_size": 2048,
             "num_hidden_layers": 27, "num_attention_heads": 16, "q_lora_rank": null,
             "intermediate_size": 10944,
             "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
             "num_experts_per_tok": 6, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
             "topk_method": "greedy", "routed_scaling_factor": 1.0, "norm_topk_prob": false})",
                     15706484224, 2661150208},
           Published{R"({"model_type": "deepseek_v3", "vocab_size": 163840, "hidden_size": 2048,
             "num_hidden_layers": 27, "num_attention_heads": 16, "q_lora_rank": null,
             "intermediate_size": 11264,
             "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
             "num_experts_per_tok": 6, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
             "routed_scaling_factor": 2.446})",
                     15960108544, 2914774528},
           Published{R"({"model_type": "kimi_k2", "vocab_size": 163840, "hidden_size": 7168,
             "num_hidden_layers": 61, "num_attention_heads": 64, "q_lora_rank": 1536,
             "intermediate_size": 18432,
             "moe_intermediate_size": 2048, "n_routed_experts": 384, "n_shared_experts": 1,
             "num_experts_per_tok": 8, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
             "routed_scaling_factor": 2.827})",
                     1026408209408, 32861477888},
           Published{R"({"model_type": "glm4_moe_lite", "vocab_size": 154880, "hidden_size": 2048,
             "num_hidden_layers": 47, "num_attention_heads": 20, "intermediate_size": 10240})",
                     29943390976, 3896763136},
           Published{R"({"model_type": "mistral4", "vocab_size": 131072, "hidden_size": 4096,
             "num_hidden_layers": 36, "num_attention_heads": 32, "intermediate_size": 12288})",
                     118972826624, 6632588288},
       }) {
    const auto model = build_shape(config_of(config));
    const auto shape = shape_of(*model, WeightType::bf16, {});
    // But for norms and biases, which are less than a hundred-thousandth.
    EXPECT_NEAR(shape.parameters / parameters, 1, 1e-5) << config;
    EXPECT_NEAR(shape.active / active, 1, 1e-4) << config;
  }
}

// Past index_topk tokens the same model costs what its indexer leaves.
TEST(ShapePlan, DeepseekV32IsV3WithAnIndexer) {
  const auto v3 = build_shape(config_from_hf(known_config("deepseek-v3").value(), "config.json", true)),
             v32 = build_shape(config_from_hf(known_config("deepseek-v3.2").value(), "config.json", true));
  const auto shape = shape_of(*v32, WeightType::f8_e4m3, {}), before = shape_of(*v3, WeightType::f8_e4m3, {});
  // 64 heads of 128 from the query's latent, one key and 64 weights from the state, in 61 layers; a norm's
  // weight and bias of the key.
  EXPECT_EQ(shape.parameters - before.parameters,
            61.0 * (1536 * 64 * 128 + 7168 * 128 + 7168 * 64 + 2 * 128));
  EXPECT_EQ(attention_flop(shape, 2048), attention_flop(before, 2048));
  EXPECT_LT(attention_flop(shape, 65536), attention_flop(before, 65536) / 2);
  EXPECT_FALSE(known_config("deepseek-v4"));
}

// A head's product with a latent of 4 + 2 numbers and its sum over 4; an indexer of 3 heads of 2. By hand.
TEST(ShapePlan, SparseAttentionGrowsByTheChosenKeysAndTheIndexer) {
  auto config = config_from_hf(read_json(golden("deepseek_v32") / "config.json"), "config.json", true);
  config.layers = 5, config.heads = 7, config.head_dim = 4;
  config.dense_layers.assign(5, true);
  config.latent = LatentConfig{6, 4, 2, 2, 2};
  config.indexer = IndexerConfig{3, 2, 100};
  const auto model = build_shape(config);
  const auto shape = shape_of(*model, WeightType::bf16, {});
  EXPECT_EQ(attention_flop(shape, 100), 2.0 * 5 * 7 * (4 + 2) * 50);
  // Of 200 tokens 100 attend to 50 on the average and 100 to 100; the indexer looks at 150 for each of those.
  EXPECT_EQ(attention_flop(shape, 200), 2.0 * 5 * (7 * (4 + 2 + 4) * 75 + 3 * 2 * 75));
  const auto chosen = [&](double length) {
    return length * attention_flop(shape, length) - 2.0 * 5 * 3 * 2 * (length * length - 1e4) / 2;
  };
  EXPECT_NEAR(chosen(3000) - chosen(2000), chosen(2000) - chosen(1000), 1e-3);  // linear past the chosen
}

// Where texts wait on disk, all of them go through a layer together: one reading of the layers, two in
// training.
TEST(ShapePlan, TextsThatWaitOnDiskReadTheLayersOnce) {
  const UseKernel use(*gemm_kernel_portable());
  const auto model = build_shape(config_of(kLlama8B));
  const auto shape = shape_of(*model, WeightType::bf16, {});
  PlanMachine machine{.memory = 1e9, .disk = 1e9, .products = 1e12, .hourly = {}};
  const PlanText text{.tokens = 1e6, .length = 2000};
  const auto in_memory = plan_rows(*model, shape, machine, text, {});
  machine.scratch = 1e12;
  const auto on_disk = plan_rows(*model, shape, machine, text, {});
  EXPECT_GT(in_memory[0].bytes_read, 10 * shape.layer_bytes);
  EXPECT_EQ(in_memory[0].scratch, 0);
  EXPECT_EQ(on_disk[0].bytes_read, shape.layer_bytes + shape.outside_bytes);
  EXPECT_EQ(on_disk[1].bytes_read, 2 * shape.layer_bytes + shape.outside_bytes);
  // What enters and leaves a layer, 4096 numbers of two bytes each; in training what enters each of 32
  // besides.
  EXPECT_EQ(on_disk[0].scratch, 1e6 * 2 * 4096 * 2);
  EXPECT_EQ(on_disk[1].scratch, 1e6 * (2 + 32) * 4096 * 2);
  EXPECT_LT(on_disk[0].memory, in_memory[0].memory);
  // Each further thread has a text at work, and in training what a layer keeps of it for backward. Of the
  // 14,336 numbers that down_proj reads 3,072 are copied at a time, 16 apart, in fp32.
  const auto copied = 4 * 2000 * (3072 + 16) * 4;
  const auto numbers = row_numbers(*model, {}, 2000);
  machine.threads = 5;
  const auto of_five = plan_rows(*model, shape, machine, text, {});
  EXPECT_NEAR(of_five[0].memory - on_disk[0].memory, 4 * 2000 * 2 * numbers.passing + copied, 1);
  EXPECT_NEAR(of_five[1].memory - on_disk[1].memory,
              4 * 2000 * 2 * (numbers.passing + numbers.saved) + copied, 1);
}

// Then nothing is computed twice, for disk: by hand, LoRA on all linear layers of rank 16.
TEST(ShapePlan, ActivationsThatAreKeptTakeDiskInsteadOfTime) {
  const auto model = build_shape(config_of(kLlama8B));
  AdapterSpec adapter;
  adapter.targets = {"all"};
  const auto shape = shape_of(*model, WeightType::bf16, adapter);
  PlanMachine machine{.memory = 1e9, .scratch = 1e13, .disk = 1e9, .products = 1e12, .hourly = {}};
  const PlanText text{.tokens = 1e6, .length = 2000};
  const auto states = plan_rows(*model, shape, machine, text, adapter);
  machine.keeps_activations = true;
  const auto kept = plan_rows(*model, shape, machine, text, adapter);
  const auto saved = row_numbers(*model, adapter, 2000).saved;
  // What two norms, attention's five and the gate's three keep, and what the first of three groups reads.
  EXPECT_GT(saved, 2 * 4096 + 4096 + 2 * 1024 + 4096 + 3 * 14336 + 2 * 4096);
  EXPECT_LT(saved, 1.02 * (2 * 4096 + 4096 + 2 * 1024 + 4096 + 3 * 14336 + 2 * 4096));
  const auto bytes = 1e6 * 32 * (2 * saved + 4 * 32);
  EXPECT_NEAR(kept[1].scratch - states[1].scratch, bytes, 1);
  EXPECT_NEAR(kept[1].disk_seconds - states[1].disk_seconds, 2 * bytes / 1e9, 1e-3);
  EXPECT_EQ(kept[1].flop, 2 * kept[0].flop);
  EXPECT_EQ(kept[1].memory, states[1].memory);
  EXPECT_EQ(kept[0].scratch, states[0].scratch);  // nothing is kept where nothing is trained
}

TEST(ShapePlan, TimeIsTheSlowerOfDiskAndProducts) {
  const auto model = build_shape(config_of(kLlama8B));
  const auto shape = shape_of(*model, WeightType::bf16, {});
  const PlanMachine machine{.memory = 4e9, .disk = 1e9, .products = 1e12, .hourly = {}};
  const auto rows = plan_rows(*model, shape, machine, {.tokens = 1e6, .length = 2000}, {});
  ASSERT_EQ(rows.size(), 2u);
  // A GB of states: 16 KiB a token, so 61,035 tokens a pass and 17 passes.
  EXPECT_NEAR(rows[0].tokens_a_pass, 61035, 1);
  EXPECT_NEAR(rows[0].bytes_read, 17 * shape.layer_bytes + shape.outside_bytes, 1);
  EXPECT_NEAR(rows[0].disk_seconds, rows[0].bytes_read / 1e9, 1e-6);
  const auto flop = 1e6 * (shape.linear_flop + 32 * 4096 * 4.0 * 1000);
  EXPECT_NEAR(rows[0].product_seconds, flop / (kReadingReached * 1e12), 1e-6);
  // Forward twice, the second time without down_proj of 32 layers, and backward once.
  const auto training = 3 * flop - 1e6 * 32 * 2 * 4096 * 14336.0;
  EXPECT_NEAR(rows[1].product_seconds, training / (kTrainingReached * 1e12), 1e-6);
  for (const auto reached : {kReadingReached, kTrainingReached})  // shares of what the registers allow
    EXPECT_TRUE(reached > 0 && reached < 1) << reached;
  EXPECT_EQ(rows[0].seconds(), std::max(rows[0].disk_seconds, rows[0].product_seconds));
  EXPECT_NEAR(rows[1].flop / training, 1, 1e-12);
  EXPECT_EQ(shape.before_experts_flop, 0);
  EXPECT_LT(rows[1].tokens_a_pass, rows[0].tokens_a_pass);
}

// 16 texts of 4096 tokens, 32 layers of 32 heads of 128: a token attends to 2048 on the average.
TEST(ShapePlan, AStepOfOneRankIsForwardAndOneBackwardOfFrozenMatrices) {
  const UseKernel use(*gemm_kernel_portable());
  const auto model = build_shape(config_of(kLlama8B));
  const auto shape = shape_of(*model, WeightType::bf16, {});
  PlanMachine machine{.products = 2e12, .threads = 8, .hourly = {}};
  const PlanText text{.tokens = 65536, .length = 4096};
  const auto step = lone_step(shape, machine, text);
  EXPECT_EQ(step.forests, 16);
  EXPECT_EQ(step.threads, 8);
  EXPECT_EQ(step.trainable_elements, 41943040);
  EXPECT_NEAR(step.seconds, 65536 * (2 * shape.linear_flop + 3.5 * 4 * 32 * 4096.0 * 2048) / (0.55 * 2e12),
              1e-6);
  EXPECT_EQ(lone_step(shape, machine, {.tokens = 100, .length = 4096}).forests, 1);

  const auto of_eight = bytes_of_rank(*model, shape, machine, text, {});
  EXPECT_EQ(static_cast<double>(of_eight.shared), shape.layer_bytes + shape.outside_bytes);
  // Each further thread: its buffers, a gradient of the adapter, a text's rows, and copies of those that
  // down_proj reads.
  machine.threads = 9;
  const auto of_nine = bytes_of_rank(*model, shape, machine, text, {});
  const auto numbers = row_numbers(*model, {}, 4096);
  EXPECT_NEAR(static_cast<double>(of_nine.own - of_eight.own),
              (12 << 20) + 4.0 * 41943040 +
                  4096 * (32 * (2 * numbers.saved + 4 * 32) + 2 * numbers.passing + 4096 * 10) +
                  4096 * (3072 + 16) * 4,
              2);
}

}  // namespace retort
