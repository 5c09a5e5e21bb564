// A batch of texts that grow, over a KV cache. Prompts enter as one forest, so that a prefix they share is
// computed and stored once; each text then owns a contiguous range of cache rows for what follows. Texts may
// leave and others enter: rows that nobody needs any more are given up when new ones are asked for.
#pragma once
#include <span>
#include <vector>

#include "models/model.h"

namespace retort {

// Passes that bring tokens into a forest's cache, in the order in which they are to be computed.
struct Feed {
  std::vector<Pass> passes;
  struct Row {
    size_t pass = 0;
    int64_t row = 0;  // of the hidden states that the pass gives
  };
  std::vector<Row> last;  // of each text that was fed: where its last token is

  // The hidden states of these [texts,E], given those of each pass.
  Tensor last_hidden(const std::vector<Tensor>& of_passes) const;
};

class GrowingForest {
 public:
  GrowingForest(const Model& model, at::ScalarType compute, KvType kv = KvType::as_computed);

  // Runs the prompts (each at least one token), `chunk_rows` rows a pass, with room for `new_rows` tokens
  // after each. Returns the hidden states of their last tokens [prompts,E]. Texts are numbered from texts()
  // on. The prompts begin with the first `shared` tokens of the prompt of text `beside`, which are not
  // computed again.
  Tensor enter(const std::vector<std::vector<int32_t>>& prompts, int64_t new_rows, int64_t chunk_rows = 512,
               int32_t beside = -1, int64_t shared = 0);

  // Appends one token to each named text, in one pass with one row a text; hidden states [texts,E].
  Tensor step(std::span<const int32_t> texts, std::span<const int32_t> tokens);

  // Appends several tokens to one text; hidden state of the last one [1,E].
  Tensor extend(int32_t text, std::span<const int32_t> tokens, int64_t chunk_rows = 512);

  // This text will not grow any more, nor will another enter beside it.
  void leave(int32_t text) { texts_[text].left = true; }

  // The same in two steps, for whoever computes the passes of several forests together: what is fed counts as
  // being there, and is once the passes of this feed, and of those before it, are computed.
  Feed feed_prompts(const std::vector<std::vector<int32_t>>& prompts, int64_t new_rows,
                    int64_t chunk_rows = 512, int32_t beside = -1, int64_t shared = 0);
  Feed feed_step(std::span<const int32_t> texts, std::span<const int32_t> tokens);
  Feed feed_text(int32_t text, std::span<const int32_t> tokens, int64_t chunk_rows = 512);
  // Computes the passes, layer by layer where the model's layers are in its file; `last_hidden` of them.
  Tensor computed(const Feed& feed) const;

  // Forgets the tokens of a text from `length` on. Only tokens of its own range can go: length >=
  // owned_from(text).
  void cut(int32_t text, int64_t length);

  int64_t texts() const { return static_cast<int64_t>(texts_.size()); }
  int64_t length(int32_t text) const { return texts_[text].shared + texts_[text].end - texts_[text].begin; }
  int64_t owned_from(int32_t text) const { return texts_[text].shared; }
  int64_t rows_used() const { return rows_; }

 private:
  struct Text {
    std::vector<KeyRange> path;             // cache rows of the prompt, root first
    int64_t shared = 0;                     // tokens on that path
    int32_t begin = 0, end = 0, limit = 0;  // cache rows of its own
    bool left = false;
  };
  void give_up_rows();
  void reserve(int64_t rows);
  Pass pass_over(std::vector<int32_t> tokens, std::vector<int32_t> positions) const;
  std::vector<KeyRange> keys_of(const Text& text, int32_t end) const;

  const Model& model_;
  at::ScalarType compute_;
  KvType kv_;
  KvCache cache_;
  int64_t rows_ = 0;      // handed out
  int64_t capacity_ = 0;  // allocated
  std::vector<Text> texts_;
};

}  // namespace retort
