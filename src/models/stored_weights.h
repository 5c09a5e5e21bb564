// The matrices and vectors of a model's file, as Linear layers take them. Matrices are views into the mapped
// file wherever the file's own bytes can be used: only rows that GGUF permutes, and what the recipe converts,
// are copied.
#pragma once
#include <memory>
#include <optional>

#include "formats/weight_file.h"
#include "models/four_bit.h"
#include "models/model.h"
#include "models/model_spec.h"
#include "models/tensor_names.h"

namespace retort {

// Type that a recipe's word asks for; nullopt: keep.
std::optional<WeightType> wanted_type(const ModelSpec& spec);

class StoredWeights {
 public:
  StoredWeights(WeightFile file, ModelConfig config, bool gguf, const ModelSpec& spec);

  // A linear layer with its bias where the file has one. The head keeps its stored type unless a dense one is
  // asked for.
  Linear linear(const TensorPlace& place) const;
  // The same, its matrix left in the file.
  Linear linear_without(const TensorPlace& place) const;
  BaseMatrix base_of(const TensorPlace& place, bool first) const;
  void give_back(const TensorPlace& place) const;
  uint64_t held_bytes(const TensorPlace& place) const;
  // Of the file, which what is held may be made from.
  uint64_t file_bytes(const TensorPlace& place) const;
  Weight matrix(const TensorPlace& place) const;
  // A vector, or a router's matrix: fp32, a copy.
  Tensor vector(const TensorPlace& place) const;

 private:
  // Keys and values of latent attention's heads, as two tensors.
  struct StoredHeads {
    TensorView keys, values;  // [heads, L, n] and [heads, v, L]
  };
  static void give_back(const StoredHeads& heads);
  // A matrix where the file has it: as one tensor, or as codes with what belongs to them.
  struct StoredMatrix {
    WeightType type;
    int64_t rows, columns;
    TensorView tensor;  // of codes where it is four_bit
    std::optional<FourBitMatrix> four_bit;
  };
  StoredMatrix matrix_at(const TensorPlace& place) const;
  std::optional<FourBitMatrix> four_bit_at(const TensorPlace& place) const;
  std::optional<StoredHeads> heads_at(const TensorPlace& place) const;
  // Rows of each head: its keys', turned back, and its values'.
  Weight joined(const StoredHeads& heads, at::ScalarType type) const;
  WeightType held_type(const TensorPlace& place, const StoredMatrix& stored) const;
  Tensor bias_of(const TensorPlace& place) const;
  TensorView matrix_view(const TensorPlace& place) const;
  GgufTensor placed(const TensorPlace& place) const;
  const TensorView* find(const TensorPlace& place) const;
  TensorView need(const TensorPlace& place) const;  // FormatError where there is none
  // One expert's matrix of the tensor that holds all of a layer's.
  TensorView expert_of(const TensorView& stack, int64_t expert) const;
  void refuse_codes_in_stack(const TensorPlace& place) const;
  TensorView half_of_gate_up(const TensorPlace& place, const TensorView* both) const;
  [[noreturn]] void fail(const TensorPlace& place, const std::string& problem) const;

  // One number that is none spreads over everything that a model computes, where nobody can tell any more
  // whence it came.
  void require_finite(const TensorView& tensor) const;

  // Pages of the file that a copy was made from would count as this process's memory until somebody else
  // wants it.
  void drop_pages(const Weight& weight, const TensorPlace& place) const;

  // Where row i of the Hugging Face order stands in the file.
  Tensor order(int64_t heads, int64_t rows, const TensorPlace& place) const;

  // Its pages are read when this returns.
  Weight stored_matrix(const TensorPlace& place, bool first = true) const;

  // Of a matrix of its own, or of one among those of all experts (need()).
  Weight scaled(const TensorView& codes, const TensorPlace& place) const;

  Weight view(const TensorView& tensor, int64_t rows, int64_t columns, const TensorPlace& place) const;

  const WeightFile file_;
  const ModelConfig config_;
  const bool gguf_;
  const std::optional<WeightType> wanted_;
  const bool integers_;
};

}  // namespace retort
