// compression_config.yaml: how the rows of a DistillKit folder are stored. Its keys are closed: one that is
// not known here would change what the bytes mean. Two schemas, told apart by the name of the vocabulary's
// size (d or vocab_size).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "spec/fields.h"

namespace retort {

inline std::vector<std::string> float_types() { return {"float16", "bfloat16", "float32", "float64"}; }

// Residuals of consecutive ranks, as whole numbers times one scale.
struct ResidualBin {
  std::string scale_dtype;
  int64_t element_bits = 0, num_elements = 0;
  template <class Visitor> void fields(Visitor& field) {
    field("scale_dtype", scale_dtype, required(one_of(float_types())), "type of the scale");
    field("element_bits", element_bits, required(between(1, 64)), "bits of an element");
    field("num_elements", num_elements, required(between(1, 1 << 20)), "elements");
  }
};

struct PackedRows {
  int64_t d = 0, k = 0, exact_k = 0;
  std::string exact_dtype = "float32", term_dtype = "float32";
  std::vector<std::string> polynomial_terms = {};  // powers, sqrt, exp
  std::vector<ResidualBin> residual_bins = {};
  bool delta_encoding = true, error_diffusion = false, normalize_t = false;
  template <class Visitor> void fields(Visitor& field) {
    field("d", d, required(between(2, 1 << 20)), "tokens of the vocabulary");
    field("k", k, required(between(1, 1 << 20)), "ranks kept");
    field("exact_k", exact_k, required(between(0, 1 << 20)), "ranks stored as they are");
    field("exact_dtype", exact_dtype, one_of(float_types()), "their type");
    field("polynomial_terms", polynomial_terms, any(), "of the curve through the other ranks");
    field("term_dtype", term_dtype, one_of(float_types()), "type of its coefficients and its arithmetic");
    field.list("residual_bins", residual_bins, "what the curve leaves");
    field("delta_encoding", delta_encoding, any(), "each rank is stored as the difference to the one before");
    field("error_diffusion", error_diffusion, any(),
          "how values were rounded when stored; they are read the same");
    field("normalize_t", normalize_t, any(),
          "the curve runs from 0 to 1 instead of 0 to the number of its ranks");
  }
};

// The older schema: columns packed_indices, exact_values and coeffs.
struct FittedRows {
  int64_t vocab_size = 0, k = 0, exact_k = 0, polynomial_degree = 0;
  bool invert_polynomial = true, with_sqrt_term = false;
  std::string term_dtype = "float32";
  template <class Visitor> void fields(Visitor& field) {
    field("vocab_size", vocab_size, required(between(2, 1 << 20)), "tokens of the vocabulary");
    field("k", k, required(between(1, 1 << 20)), "ranks kept");
    field("exact_k", exact_k, required(between(0, 1 << 20)), "ranks stored as they are");
    field("polynomial_degree", polynomial_degree, required(between(0, 64)),
          "of the curve through the other ranks");
    field("invert_polynomial", invert_polynomial, any(), "its powers are negative");
    field("with_sqrt_term", with_sqrt_term, any(), "and a square root");
    field("term_dtype", term_dtype, one_of(float_types()), "type that its coefficients were rounded to");
  }
};

using CompressionConfig = std::variant<PackedRows, FittedRows>;

// FormatError, one line, for the first thing that is wrong; `name` stands for the file.
CompressionConfig read_compression_config(std::string_view text, const std::string& name);

inline int64_t vocabulary_of(const CompressionConfig& config) {
  const auto* packed = std::get_if<PackedRows>(&config);
  return packed ? packed->d : std::get<FittedRows>(config).vocab_size;
}

}  // namespace retort
