// What is trained: low-rank adapters beside frozen weights, or every weight.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "spec/fields.h"

namespace retort {

// One of several adapters that are put on a model together, and how much of it.
struct WeightedAdapter {
  std::string path = {};
  double weight = 1;

  template <class Visitor> void fields(Visitor& field) {
    field("path", path, required(not_empty()),
          "adapter folder of PEFT, mlx-lm or retort, or a GGUF LoRA file");
    field("weight", weight, any(), "its update is multiplied by it; below 0 takes it away");
  }
};

struct AdapterSpec {
  std::string kind = "lora";  // lora, rslora, dora, full, none
  int64_t rank = 16;
  double alpha = 32;
  double dropout = 0;
  std::vector<std::string> targets = {"auto"};
  std::vector<std::string> modules_to_save;
  std::vector<std::string> trainable_tokens = {};  // ids, or tokens as they are spelled
  bool trainable_tokens_head = false;
  std::string from = {};
  std::vector<WeightedAdapter> merge = {};

  bool low_rank() const { return kind == "lora" || kind == "rslora" || kind == "dora"; }
  // The one place that knows: alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732). Train, merge
  // and export use it.
  double scaling() const {
    return kind == "rslora" ? alpha / std::sqrt(static_cast<double>(rank))
                            : alpha / static_cast<double>(rank);
  }

  template <class Visitor> void fields(Visitor& field) {
    field("kind", kind, one_of({"lora", "rslora", "dora", "full", "none"}),
          "lora (arXiv:2106.09685), rslora (2312.03732), dora (2402.09353), full = every weight in fp32, "
          "none = nothing");
    field("rank", rank, between(1, 1024), "rows of A and columns of B; memory and arithmetic grow linearly");
    field("alpha", alpha, above(0), "the update is scaled by alpha / rank (rslora: alpha / sqrt(rank))");
    field("dropout", dropout, between(0, 0.95), "share of the adapter's inputs zeroed while training");
    field("targets", targets, not_empty(),
          "linear layers to adapt, by the end of their weight name; all = every linear layer of the stack; "
          "auto = all, but of a DeepSeek the projections of its attention alone; besides, by name: "
          "embed_tokens, lm_head, and indexer: that of DeepSeek V3.2, which learns to choose what attention "
          "looks at; alone while attention is dense (warm-up), beside its projections over what is chosen; "
          "and mtp: of the layer behind the last (model.mtp) eh_proj, the projections of its attention and "
          "what the other targets name");
    field("modules_to_save", modules_to_save, any(),
          "layers trained whole besides the adapters and saved with them: lm_head, embed_tokens, a norm");
    field("trainable_tokens", trainable_tokens, any(),
          "tokens whose rows of the embedding are trained besides the adapters, all others staying as they "
          "are: ids, or tokens as they are spelled, those of digits alone by their id (PEFT's "
          "trainable_token_indices); where the head is the embedding it has these rows too");
    field("trainable_tokens_head", trainable_tokens_head, any(),
          "the same tokens' rows of a head that is another matrix than the embedding are trained too; always "
          "so beside rows of model.add_tokens and model.add_words");
    field("from", from, any(),
          "the training starts from this adapter, a folder of PEFT, mlx-lm or retort; keys of this section "
          "that are left out are taken from it; empty: from a fresh one");
    field.list("merge", merge,
               "adapters that belong to the base: their weighted sum is added to it before anything else");
  }
};

}  // namespace retort
