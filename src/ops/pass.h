// One forward pass over one forest: everything an operation needs besides its weights.
#pragma once
#include <ATen/ATen.h>

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "forest/forest.h"
#include "ops/kv_type.h"

namespace retort {

using at::Tensor;
struct Linear;       // ops/linear.h
struct AttendRule;   // ops/attend.h
class GradientSink;  // ops/gradient_sink.h

// What a cache holds of a token in each layer.
struct CacheShape {
  int64_t layers = 0, heads = 0, key_dim = 0, value_dim = 0;  // no values: they are the front of the keys
  int64_t index_dim = 0;                                      // of an indexer's key; 0: there is none
  int64_t numbers() const { return heads * (key_dim + value_dim) + index_dim; }
};

// Keys and values of earlier tokens, per layer [capacity, heads, width], held in fp32, bf16 or 8 bits.
// Rows are handed out by whoever generates; a segment's rows are contiguous, so `AttendBlock.keys` names
// cache rows when a cache is in use.
struct KvCache {
  std::vector<Tensor> keys, values;
  std::vector<Tensor> key_scales,
      value_scales;  // 8 bits: fp32 [capacity, kv_heads], largest magnitude of a head's row / 127
  std::vector<Tensor> index_keys, index_scales;  // the same of an indexer's keys [capacity, 1, width]
  auto sides() { return std::array{&keys, &values, &key_scales, &value_scales, &index_keys, &index_scales}; }
};

struct CacheFormat {
  CacheShape shape;
  KvType type = KvType::as_computed;
  at::ScalarType compute = at::kFloat;  // what as_computed is
  at::Device device = at::kCPU;
};
// A cache of so many rows that holds what `from` (empty, or smaller) holds in its first `rows_kept` rows.
KvCache larger_cache(const KvCache& from, int64_t rows_kept, int64_t capacity, const CacheFormat& format);

// What is asked of a result: its value, or nothing but gradients of what it was computed from.
enum class Wanted : uint8_t { value, gradients };

struct Pass {
  Tensor tokens;     // int64 [N]; operations compute on their device, all else here is in the CPU's memory
  Tensor positions;  // int64 [N]
  std::vector<AttendBlock>
      blocks;  // queries are rows of this pass; keys are rows of this pass, or of the cache when there is one
  std::vector<int32_t> cache_rows;  // with a cache: where row i of this pass stores its key and value
  KvCache* cache = nullptr;
  at::ScalarType compute =
      at::kFloat;            // fp32 or bf16: the type of activations and of the matrices that meet them
  Tensor rows;               // int64, rising: the hidden states that are asked for; undefined = of all rows
  bool training = false;     // dropout on
  uint64_t dropout_key = 0;  // draws are keyed by (this, layer name, row, column)
  bool recompute = false;    // keep only layer boundaries and recompute inside each layer in backward
  // Backward comes after other layers were computed: what it multiplies by is taken from its source again.
  bool lets_matrices_go = false;
  Wanted layer_result = Wanted::value;  // gradients: the layer was computed before, and what left it is known
  float embedding_noise = 0;            // NEFTune alpha (arXiv:2310.05914), 0 = off
  GradientSink* gradients = nullptr;    // where there is one, gradients of linear layers' weights and of the
                                        // embedding go there, not into the graph

  std::function<void(const Linear& layer, const Tensor& x)>
      observe;  // hears what enters each linear layer; for measuring
  // With their graph: what leaves each layer [N,E]; rotated queries [N,H,D] and keys [N,K,D] with the rule of
  // their layer.
  std::function<void(int64_t layer, const Tensor& x)> after_layer;
  std::function<void(const AttendRule& rule, const Tensor& q, const Tensor& k)> before_attend;

  int64_t size() const { return tokens.size(0); }
};

// A pass over a whole forest without a cache, computed on `device`.
Pass make_pass(const Forest& forest, at::ScalarType compute, at::Device device = at::kCPU);
// The same pass with hidden states of these rows alone, where leaving the others out is worth it: else of
// all, and false.
bool ask_for(Pass& pass, const std::vector<int32_t>& rows);

}  // namespace retort
