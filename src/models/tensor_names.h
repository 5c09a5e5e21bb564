// One tensor, two names, both made from its role: Hugging Face's and GGUF's; and what the converter does to
// the values on the way.
#pragma once
#include <optional>
#include <string>

#include "models/config.h"
#include "ops/role.h"

namespace retort {

// What a role is called: "model.layers.3.<block>.<field>" in a folder, "blk.3.<gguf>" in a GGUF file. Of an
// expert: "model.layers.3.<block>.experts.7.<field>" and a part of "blk.3.<gguf>_exps".
struct RoleName {
  Role role;
  const char* block;
  const char* field;
  const char* gguf;
};

// Hugging Face's names. std::logic_error for a place without a role, or with one that the family names no
// tensor of.
std::string module_name(const ModelConfig& config,
                        const TensorPlace& place);  // "model.layers.3.self_attn.q_proj"
std::string tensor_name(const ModelConfig& config,
                        const TensorPlace& place);  // the same with .weight or .bias
std::string field_name(const ModelConfig& config, const TensorPlace& place);  // "q_proj"

struct GgufTensor {
  std::string name;  // "blk.3.attn_q.weight"
  int64_t permuted_heads =
      0;  // arch llama: rows of q and k are interleaved inside each of so many heads; 0 = rows as they are
  bool plus_one = false;  // Gemma: the file holds 1 + w
  int64_t expert =
      -1;  // its place in a tensor of all experts' matrices [X, rows, columns]; -1 = a tensor of its own
};

// Where a folder has all experts' matrices of a layer in one tensor: "model.layers.3.mlp.experts.down_proj"
// [X, rows, columns], and of gate and up "...gate_up_proj", each expert's gate in front of its up.
std::string stack_name(const ModelConfig& config, const TensorPlace& place);

// GGUF's architecture name of a family ("llama" for llama and mistral).
std::string gguf_architecture(const ModelConfig& config);

GgufTensor gguf_tensor(const ModelConfig& config, const TensorPlace& place);

// Row j * (d/2) + i of a Hugging Face head of d rows is row 2 i + j of the GGUF head (models/convert: view
// [heads, 2, d/2], swap the inner two). Both give, for a row of one order, where it stands in the other;
// `rows` = heads * head_dim.
int64_t gguf_row_of(int64_t hf_row, int64_t heads, int64_t rows);
int64_t hf_row_of(int64_t gguf_row, int64_t heads, int64_t rows);

}  // namespace retort
