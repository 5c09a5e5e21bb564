// SmolLM2-135M-Instruct itself against transformers in fp32 (tools/golden/greedy.py). Skipped where the file
// is absent.
#include <gtest/gtest.h>

#include "base/json.h"
#include "models/model.h"
#include "ops/int8_gemm.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::filesystem::path checkpoint() {
  return std::filesystem::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
}

KvCache cache_for(const ModelConfig& config, int64_t capacity) {
  KvCache cache;
  for (int64_t i = 0; i < config.layers; ++i) {
    cache.keys.push_back(at::zeros({capacity, config.kv_heads, config.head_dim}));
    cache.values.push_back(at::zeros({capacity, config.kv_heads, config.head_dim}));
  }
  return cache;
}

TEST(SmolLM2, GreedyTextEqualsTransformers) {
  if (!std::filesystem::exists(checkpoint())) GTEST_SKIP() << checkpoint() << " is absent: run tools/setup";
  const auto loaded = load_model({.path = checkpoint().string(), .compute = "f32"});
  const auto& model = *loaded.model;
  const auto record =
      read_json(std::filesystem::path(source_dir()) / "tests/golden/models/smollm2_greedy.json");
  EXPECT_EQ(record["sha256"].get<std::string>(), loaded.sha256.get());
  const at::NoGradGuard no_graph;

  // All prompts in one pass, then one token of each a pass: rows of the cache are 128 a prompt.
  constexpr int32_t kRows = 128;
  const auto& runs = record["runs"];
  auto cache = cache_for(model.config, kRows * static_cast<int64_t>(runs.size()));
  std::vector<std::vector<int32_t>> texts, fresh;
  for (const auto& run : runs) {
    texts.emplace_back();
    fresh.push_back(run["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(loaded.tokenizer->encode(run["prompt"].get<std::string>(), Specials::as_tokens), fresh.back());
  }
  for (int step = 0; step < 32; ++step) {
    Pass pass;
    pass.cache = &cache;
    std::vector<int64_t> tokens, positions;
    std::vector<int32_t> last;
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto q_begin = static_cast<int32_t>(tokens.size()), base = static_cast<int32_t>(i) * kRows;
      for (const auto token : fresh[i]) {
        pass.cache_rows.push_back(base + static_cast<int32_t>(texts[i].size()));
        positions.push_back(static_cast<int64_t>(texts[i].size()));
        texts[i].push_back(token);
        tokens.push_back(token);
      }
      last.push_back(static_cast<int32_t>(tokens.size()) - 1);
      pass.blocks.push_back({q_begin,
                             static_cast<int32_t>(tokens.size()),
                             {{base, base + static_cast<int32_t>(texts[i].size())}}});
    }
    pass.tokens = at::tensor(tokens);
    pass.positions = at::tensor(positions);
    auto next = logits(model.hidden(pass), last, model.head, pass);
    for (const auto end : model.config.eos)
      next.select(1, end).fill_(-1e30f);  // the golden asks for 32 tokens
    const auto best = next.argmax(1);
    for (size_t i = 0; i < texts.size(); ++i)
      fresh[i] = {static_cast<int32_t>(best[static_cast<int64_t>(i)].item<int64_t>())};
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    texts[i].push_back(fresh[i].front());
    const auto prompt = runs[i]["ids"].size();
    EXPECT_EQ(std::vector<int32_t>(texts[i].begin() + static_cast<std::ptrdiff_t>(prompt), texts[i].end()),
              runs[i]["greedy"].get<std::vector<int32_t>>())
        << runs[i]["prompt"];
  }
}

TEST(SmolLM2, LossEqualsTransformers) {
  if (!std::filesystem::exists(checkpoint())) GTEST_SKIP() << checkpoint() << " is absent: run tools/setup";
  const auto loaded = load_weights({.path = checkpoint().string(), .compute = "f32"});
  const auto& model = *loaded.model;
  const auto record =
      read_json(std::filesystem::path(source_dir()) / "tests/golden/models/smollm2_greedy.json");
  const at::NoGradGuard no_graph;
  double bf16_loss = 0, reference_loss = 0;
  for (const auto& run : record["runs"]) {
    const auto ids = run["ids"].get<std::vector<int32_t>>();
    Forest forest;
    forest.add_segment(ids);
    for (size_t i = 1; i < ids.size(); ++i)
      forest.targets.push_back({static_cast<int32_t>(i) - 1, ids[i], 1, 0});
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const auto pass = make_pass(forest, type);
      const auto loss = cross_entropy(model.hidden(pass), forest.targets, model.head, pass);
      const auto reference = run["loss"].get<double>();
      if (type == at::kFloat)
        EXPECT_NEAR(loss.nats.item<double>() / loss.weight, reference, 1e-4) << run["prompt"];
      else bf16_loss += loss.nats.item<double>(), reference_loss += reference * loss.weight;
      const auto scores = score_targets(model.hidden(pass), forest.targets, model.head, pass);
      EXPECT_NEAR(-scores.log_probabilities.sum().item<double>(), loss.nats.item<double>(),
                  1e-3 * std::max(1.0, loss.nats.item<double>()));
    }
  }
  EXPECT_NEAR(bf16_loss / reference_loss, 1, 0.01);  // single prompts of three tokens are off by up to 2 %
}

// Frozen layers on 8-bit integers, all prompts in one forest (few rows would read the blocks exactly).
TEST(SmolLM2, IntegersKeepTheLoss) {
  if (!std::filesystem::exists(checkpoint())) GTEST_SKIP() << checkpoint() << " is absent: run tools/setup";
  if (!int8_kernel()) GTEST_SKIP() << "no AVX-512 VNNI";
  const auto loaded = load_weights({.path = checkpoint().string(), .compute = "int8"});
  for (const auto* layer : loaded.model->linears()) ASSERT_TRUE(layer->int8_scales.defined()) << layer->name;
  const auto record =
      read_json(std::filesystem::path(source_dir()) / "tests/golden/models/smollm2_greedy.json");
  const at::NoGradGuard no_graph;
  Forest forest;
  double reference = 0;
  for (const auto& run : record["runs"]) {
    const auto ids = run["ids"].get<std::vector<int32_t>>();
    const auto first = static_cast<int32_t>(forest.size());
    forest.add_segment(ids);
    for (size_t i = 1; i < ids.size(); ++i)
      forest.targets.push_back({first + static_cast<int32_t>(i) - 1, ids[i], 1, 0});
    reference += run["loss"].get<double>() * static_cast<double>(ids.size() - 1);
  }
  const auto loss = cross_entropy(loaded.model->hidden(make_pass(forest, at::kFloat)), forest.targets,
                                  loaded.model->head, make_pass(forest, at::kFloat));
  EXPECT_NEAR(loss.nats.item<double>() / reference, 1, 0.01);
  EXPECT_GT(std::abs(loss.nats.item<double>() / reference - 1), 1e-6);  // integers did run
}

}  // namespace
}  // namespace retort
