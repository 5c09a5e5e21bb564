// Qwen 3 with experts (arXiv:2505.09388): the layer of qwen3.cpp whose feed-forward part is sparse.
#include "models/experts.h"
#include "models/families.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct Qwen3MoeLayer : PreNormLayer<SparseMlp> {
  Qwen3MoeLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary),
                     SparseMlp(parts, index, {"mlp", "gate_proj", "up_proj", "down_proj"})) {
    norm_heads(parts, index);
  }
};

}  // namespace

std::unique_ptr<Model> build_qwen3_moe(const Parts& parts) { return stack_of<Qwen3MoeLayer>(parts, 0); }

}  // namespace retort
