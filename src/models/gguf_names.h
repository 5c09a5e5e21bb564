// One tensor, two names: Hugging Face's and GGUF's, and what the converter does to the values on the way.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "models/config.h"

namespace retort {

struct GgufTensor {
  std::string name;  // "blk.3.attn_q.weight"
  int64_t permuted_heads =
      0;  // arch llama: rows of q and k are interleaved inside each of so many heads; 0 = rows as they are
  bool plus_one = false;  // Gemma: the file holds 1 + w
  int64_t expert =
      -1;  // its place in a tensor of all experts' matrices [X, rows, columns]; -1 = a tensor of its own
};

// GGUF's architecture name of a family ("llama" for llama and mistral).
std::string gguf_architecture(const ModelConfig& config);

// nullopt: a tensor that GGUF does not know.
std::optional<GgufTensor> gguf_tensor(const ModelConfig& config, std::string_view hf_name);

// Row j * (d/2) + i of a Hugging Face head of d rows is row 2 i + j of the GGUF head (models/convert: view
// [heads, 2, d/2], swap the inner two). Both give, for a row of one order, where it stands in the other;
// `rows` = heads * head_dim.
int64_t gguf_row_of(int64_t hf_row, int64_t heads, int64_t rows);
int64_t hf_row_of(int64_t gguf_row, int64_t heads, int64_t rows);

}  // namespace retort
