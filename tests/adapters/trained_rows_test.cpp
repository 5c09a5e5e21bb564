// Embedding rows that are trained alone (PEFT's trainable_token_indices) against PEFT's logits and gradients,
// and the ways that they go: merged, written, read.
#include "adapters/embedding_golden.h"  // tests/adapters
#include "adapters/merge.h"
#include "data/temporary_folder.h"  // tests/data
#include "export/artefacts.h"
#include "formats/adapter_folder.h"

namespace retort {
namespace {

constexpr const char* kCases[] = {"tokens", "tokens_of_both"};

AdapterSpec with_tokens(std::vector<std::string> tokens) {
  AdapterSpec spec;
  spec.rank = 2;
  spec.targets = {"q_proj"};
  spec.trainable_tokens = std::move(tokens);
  return spec;
}

TEST(TrainedRows, OfPeftGiveItsLogitsAndGradients) {
  for (const std::string family : kFamilies)
    for (const auto* which : kCases) {
      const auto name = family + "_" + which;
      auto loaded = base(family);
      const bool tied = loaded.model->config.tied_head;
      EXPECT_GT(distance(logits_of(loaded), tensor_of(expected(), name + ".logits")), 0.02) << name;
      EXPECT_TRUE(load_adapter(loaded, adapter(name)).empty());
      EXPECT_EQ(loaded.model->config.tied_head, tied);
      EXPECT_EQ(loaded.model->head.linear.rows.has_value(), tied || which == kCases[1]) << name;
      expect_peft(loaded, name);
    }
}

TEST(TrainedRows, TakeTheirPlacesWhenMerged) {
  for (const std::string family : kFamilies)
    for (const auto* which : kCases) {
      const auto name = family + "_" + which;
      auto merged = base(family);
      load_adapter(merged, adapter(name));
      const auto before = widen(merged.model->embedding.weight, at::kFloat).clone();
      EXPECT_GT(delta_error(merged.model->embedding, WeightType::bf16), 0);
      merge_adapters(merged);
      EXPECT_FALSE(has_adapters(*merged.model));
      EXPECT_TRUE(trainables(*merged.model).empty());
      expect_logits(merged, name);
      // Nothing but the rows of the tokens has moved.
      const auto after = widen(merged.model->embedding.weight, at::kFloat);
      for (int64_t id = 0; id < after.size(0); ++id)
        EXPECT_EQ(at::equal(after[id], before[id]), id != 9 && id != 17 && (id != 95 || which == kCases[1]))
            << name << " " << id;
      EXPECT_TRUE(at::equal(before, widen(base(family).model->embedding.weight, at::kFloat)));
    }
}

TEST(TrainedRows, AreWrittenAsPeftNamesThemAndComeBack) {
  for (const std::string family : kFamilies)
    for (const auto* which : kCases) {
      const TemporaryFolder folder;
      const auto name = family + "_" + which;
      auto loaded = base(family);
      load_adapter(loaded, adapter(name));
      const auto spec = described_adapter(*loaded.model);
      EXPECT_EQ(spec.trainable_tokens, which == kCases[0] ? (std::vector<std::string>{"9", "17", "95"})
                                                          : (std::vector<std::string>{"9", "17"}));
      EXPECT_TRUE(spec.modules_to_save.empty());
      write_peft_adapter(folder / "again", loaded, spec);
      std::vector<std::string> theirs, ours;
      for (const auto& tensor : open_safetensors(adapter(name) / "adapter_model.safetensors").tensors)
        theirs.push_back(tensor.name);
      for (const auto& tensor : open_safetensors(folder / "again/adapter_model.safetensors").tensors)
        ours.push_back(tensor.name);
      std::sort(theirs.begin(), theirs.end()), std::sort(ours.begin(), ours.end());
      EXPECT_EQ(ours, theirs) << name;
      auto again = base(family);
      EXPECT_TRUE(load_adapter(again, folder / "again").empty());
      expect_logits(again, name);
      const auto summary = summary_of(open_adapter_folder(adapter(name)));
      EXPECT_EQ(summary.trainable_tokens, spec.trainable_tokens);
      EXPECT_EQ(summary.trainable_tokens_head, spec.trainable_tokens_head);
      EXPECT_NE(refusal([&] {
                  write_gguf_adapter(folder / "a.gguf", loaded, spec);
                }).find("cannot hold adapter.trainable_tokens"),
                std::string::npos);
    }
}

TEST(TrainedRows, BeginAsTheMatrixHasThem) {
  for (const std::string family : kFamilies) {
    auto loaded = base(family);
    const auto before = logits_of(loaded);
    auto spec = with_tokens({"17", "3"});
    spec.trainable_tokens_head = true;
    const auto leaves = attach(*loaded.model, with_token_ids(spec, loaded), 3);
    EXPECT_LT(distance(logits_of(loaded), before), 1e-6) << family;
    EXPECT_EQ(leaves[0].name, "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta");
    EXPECT_EQ(loaded.model->embedding.rows->ids, (std::vector<int64_t>{3, 17}));
    const bool tied = loaded.model->config.tied_head;
    EXPECT_EQ(tied, family == "gemma3");
    EXPECT_EQ(leaves.back().name.find("lm_head") != std::string::npos, !tied);
  }
}

TEST(TrainedRows, AnAdapterGoesOnFromItsTokens) {
  auto loaded = base("llama");
  auto spec = with_tokens({});
  spec.rank = 3;
  spec.from = adapter("llama_tokens").string();
  EXPECT_NE(refusal([&] {
              start_adapter(loaded, spec, 1);
            }).find("llama_tokens trains rows of the tokens [9, 17, 95], the recipe names []"),
            std::string::npos);
  spec.trainable_tokens = {"95", "9", "17"};
  EXPECT_EQ(refusal([&] { start_adapter(loaded, spec, 1); }), "accepted");
  expect_logits(loaded, "llama_tokens");
}

TEST(TrainedRows, WhatDoesNotFitIsRefusedInOneLine) {
  auto loaded = base("gemma3");
  const auto fits = [&](AdapterSpec spec) {
    return refusal([&] { require_fitting(*loaded.model, with_token_ids(std::move(spec), loaded)); });
  };
  EXPECT_EQ(fits(with_tokens({"17"})), "accepted");
  EXPECT_EQ(fits(with_tokens({"96"})),
            "adapter.trainable_tokens: '96' has no row in the embedding, which has 96");
  EXPECT_EQ(fits(with_tokens({"17", "17"})), "adapter.trainable_tokens: '17' stands there twice");
  EXPECT_EQ(
      fits(with_tokens({"<|law|>"})),
      "adapter.trainable_tokens: '<|law|>' is no token of this model; expected an id, or a token as the "
      "vocabulary spells it");
  auto spec = with_tokens({"17"});
  spec.targets = {"q_proj", "embed_tokens"};
  EXPECT_EQ(fits(spec),
            "adapter.trainable_tokens: embed_tokens is in adapter.targets too, which changes the rows of all "
            "tokens; take it out of there, or leave trainable_tokens out");
  spec.targets = {"q_proj"};
  spec.modules_to_save = {"lm_head"};  // tied to the embedding
  EXPECT_NE(fits(spec).find("lm_head is in adapter.modules_to_save too"), std::string::npos);
  spec = with_tokens({"17"});
  spec.kind = "full";
  EXPECT_NE(fits(spec).find("adapter.kind is full"), std::string::npos);
  auto apart = base("llama");
  load_adapter(apart, adapter("llama_tokens"));
  EXPECT_NE(refusal([&] {
              auto other = base("llama");
              load_adapters(other, {{adapter("llama_tokens").string(), 0.5}});
            }).find("holds rows of tokens that were trained alone, which is neither weighted nor added"),
            std::string::npos);
}

}  // namespace
}  // namespace retort
