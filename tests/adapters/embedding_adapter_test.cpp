// Low-rank adapters on the embedding and the head against PEFT's logits and gradients, and the ways that such
// an adapter goes: merged, written, read.
#include "adapters/embedding_golden.h"  // tests/adapters
#include "adapters/merge.h"
#include "data/temporary_folder.h"  // tests/data
#include "export/artefacts.h"
#include "formats/adapter_folder.h"
#include "ops/head_rows.h"

namespace retort {
namespace {

constexpr const char* kCases[] = {"low_rank", "embedding", "head"};

TEST(EmbeddingAdapters, OfPeftGiveItsLogitsAndGradients) {
  for (const std::string family : kFamilies)
    for (const auto* which : kCases) {
      const auto name = family + "_" + which;
      auto loaded = base(family);
      EXPECT_GT(distance(logits_of(loaded), tensor_of(expected(), name + ".logits")), 0.02) << name;
      EXPECT_TRUE(load_adapter(loaded, adapter(name)).empty());
      EXPECT_FALSE(loaded.model->config.tied_head);
      expect_peft(loaded, name);
    }
}

// What distillation asks of the head, a chunk of logits at a time and a few ids of each row.
TEST(EmbeddingAdapters, EveryLossOfTheHeadHasTheGradientsOfCrossEntropy) {
  for (const auto* name : {"llama_low_rank", "gemma3_head"}) {
    auto loaded = base(std::string(name).substr(0, std::string(name).find('_')));
    load_adapter(loaded, adapter(name));
    const auto& head = loaded.model->head;
    const auto vocabulary = head.linear.weight.rows;
    const auto first = gradients_of(loaded, [&](const Tensor& hidden, const Text& text, const Pass& pass) {
      return cross_entropy(hidden, text.targets, head, pass).nats;
    });
    const auto second = gradients_of(loaded, [&](const Tensor& hidden, const Text& text, const Pass& pass) {
      const std::span rows(text.rows.data(), text.targets.size());
      return loss_over_logits(hidden, rows, {head, vocabulary}, pass, [&](LogitRows& chunk, bool gradient) {
        double nats = 0;
        const auto log_q = chunk.logits.log_softmax(-1);
        if (gradient) chunk.logits.copy_(log_q.exp());
        for (int64_t r = 0; r < log_q.size(0); ++r) {
          const auto label = text.targets[chunk.first + static_cast<size_t>(r)].label;
          nats -= log_q[r][label].item<double>();
          if (gradient) chunk.logits[r][label] -= 1;
        }
        return nats;
      });
    });
    const auto third = gradients_of(loaded, [&](const Tensor& hidden, const Text& text, const Pass& pass) {
      IdRows asked;
      for (const auto& target : text.targets) {
        asked.rows.push_back(target.row);
        asked.ids.push_back(target.label);
        asked.offsets.push_back(asked.ids.size());
      }
      return loss_over_ids(hidden, asked, {head, vocabulary}, pass,
                           [](size_t, std::span<const float> log_q, std::span<float> corrections) {
                             corrections[0] = -1;
                             return IdLoss{-static_cast<double>(log_q[0]), 1};
                           });
    });
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_LT(distance(second[i], first[i]), 1e-5) << name << " " << i;
      EXPECT_LT(distance(third[i], first[i]), 1e-5) << name << " " << i;
    }
  }
}

TEST(EmbeddingAdapters, BecomeTheModelsOwnMatricesWhenMerged) {
  for (const std::string family : kFamilies)
    for (const auto* which : kCases) {
      const auto name = family + "_" + which;
      auto merged = base(family);
      load_adapter(merged, adapter(name));
      merge_adapters(merged);
      EXPECT_FALSE(has_adapters(*merged.model));
      expect_logits(merged, name);
      auto added = base(family);
      merge_into_base(added, {{adapter(name).string(), 1}});
      EXPECT_TRUE(trainables(*added.model).empty());
      expect_logits(added, name);
    }
}

TEST(EmbeddingAdapters, AreWrittenAsPeftNamesThemAndComeBack) {
  for (const std::string family : kFamilies)
    for (const auto* which : kCases) {
      const TemporaryFolder folder;
      const auto name = family + "_" + which;
      auto loaded = base(family);
      load_adapter(loaded, adapter(name));
      auto spec = described_adapter(*loaded.model);
      write_peft_adapter(folder / "again", loaded, spec);
      std::vector<std::string> theirs, ours;
      for (const auto& tensor : open_safetensors(adapter(name) / "adapter_model.safetensors").tensors)
        if (tensor.name.find(".base_layer.") == std::string::npos) theirs.push_back(tensor.name);
      for (const auto& tensor : open_safetensors(folder / "again/adapter_model.safetensors").tensors)
        ours.push_back(tensor.name);
      std::sort(theirs.begin(), theirs.end()), std::sort(ours.begin(), ours.end());
      EXPECT_EQ(ours, theirs) << name;
      auto config = parse_peft_config(read_text(folder / "again/adapter_config.json"), "config");
      std::sort(config.target_modules.begin(), config.target_modules.end());
      EXPECT_EQ(config.target_modules,
                parse_peft_config(read_text(adapter(name) / "adapter_config.json"), "config").target_modules);
      auto again = base(family);
      EXPECT_TRUE(load_adapter(again, folder / "again").empty());
      expect_logits(again, name);
      // PEFT's own file holds the base's matrices too, which nobody counts as trained.
      EXPECT_EQ(summary_of(open_adapter_folder(adapter(name))).elements,
                summary_of(open_adapter_folder(folder / "again")).elements);
    }
}

TEST(EmbeddingAdapters, GoIntoAGgufAdapterWhereTheBaseHasTwoMatrices) {
  const TemporaryFolder folder;
  auto loaded = base("llama");
  load_adapter(loaded, adapter("llama_low_rank"));
  write_gguf_adapter(folder / "adapter.gguf", loaded, described_adapter(*loaded.model));
  auto again = base("llama");
  load_adapter(again, folder / "adapter.gguf");
  expect_logits(again, "llama_low_rank");
  auto tied = base("gemma3");
  load_adapter(tied, adapter("gemma3_embedding"));
  EXPECT_NE(refusal([&] {
              write_gguf_adapter(folder / "tied.gguf", tied, described_adapter(*tied.model));
            }).find("the base's embedding and head are one tensor"),
            std::string::npos);
}

TEST(EmbeddingAdapters, BeginAsPeftsDo) {
  auto loaded = base("gemma3");
  const auto before = logits_of(loaded);
  AdapterSpec spec;
  spec.rank = 64;
  spec.targets = {"embed_tokens", "lm_head"};
  const auto leaves = attach(*loaded.model, spec, 3);
  ASSERT_EQ(leaves.size(), 4u);
  EXPECT_TRUE(at::equal(logits_of(loaded), before));
  const auto& embedding = *loaded.model->embedding.adapter;
  EXPECT_NEAR(embedding.a.std().item<double>(), 1, 0.05);  // nn.Embedding's, of 2048 numbers
  EXPECT_NEAR(embedding.a.mean().item<double>(), 0, 0.1);
  EXPECT_EQ(embedding.b.abs().sum().item<double>(), 0);
  EXPECT_LE(loaded.model->head.linear.adapter->a.abs().max().item<double>(), 1 / std::sqrt(32.0));
  EXPECT_EQ(loaded.model->head.linear.name, "lm_head");
  // Of the two, only what is adapted moves.
  auto one = base("gemma3");
  spec.targets = {"embed_tokens"};
  attach(*one.model, spec, 3);
  EXPECT_FALSE(one.model->head.linear.adapter);
  EXPECT_FALSE(one.model->config.tied_head);
}

TEST(EmbeddingAdapters, AllMeansTheLayersOfTheStack) {
  auto loaded = base("llama");
  attach(*loaded.model, {.targets = {"all"}, .modules_to_save = {}}, 1);
  EXPECT_FALSE(loaded.model->embedding.adapter);
  EXPECT_FALSE(loaded.model->head.linear.adapter);
}

TEST(EmbeddingAdapters, WhatDoesNotFitIsRefusedInOneLine) {
  auto loaded = base("gemma3");
  const auto fits = [&](const AdapterSpec& spec) {
    return refusal([&] { require_fitting(*loaded.model, spec); });
  };
  EXPECT_EQ(fits({.targets = {"embed_tokens", "lm_head"}, .modules_to_save = {}}), "accepted");
  EXPECT_EQ(fits({.kind = "dora", .targets = {"lm_head"}, .modules_to_save = {}}), "accepted");
  EXPECT_EQ(
      fits({.kind = "dora", .targets = {"embed_tokens"}, .modules_to_save = {}}),
      "adapter.targets: 'embed_tokens' is no target of DoRA, which would scale the embedding's columns by "
      "one magnitude for all tokens; set adapter.kind to lora or rslora, or train it whole with "
      "adapter.modules_to_save");
  EXPECT_EQ(
      fits({.targets = {"lm_head"}, .modules_to_save = {"lm_head"}}),
      "adapter.targets: 'lm_head' is in adapter.modules_to_save too, which trains it whole; take it out "
      "of one of them");
  EXPECT_EQ(fits({.targets = {"embed_tokens"}, .modules_to_save = {"lm_head"}}), "accepted");
  EXPECT_NE(fits({.targets = {"embed_token"}, .modules_to_save = {}}).find("did you mean 'embed_tokens'?"),
            std::string::npos);

  // Another model's matrix beside the adapter, as PEFT keeps it.
  auto other = base("llama");
  {
    const at::NoGradGuard no_grad;
    other.model->head.linear.weight = dense_weight(widen(other.model->head.linear.weight, at::kFloat) * 1.1);
  }
  EXPECT_NE(refusal([&] {
              load_adapter(other, adapter("llama_low_rank"));
            }).find("lm_head.base_layer.weight: is not this base's matrix"),
            std::string::npos);
  EXPECT_FALSE(has_adapters(*other.model));
}

}  // namespace
}  // namespace retort
