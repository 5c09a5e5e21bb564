// Mixtral (arXiv:2401.04088): Llama's layer with eight feed-forward parts, of which two see a token.
#include "models/experts.h"
#include "models/families.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct MixtralLayer : PreNormLayer<SparseMlp> {
  MixtralLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary),
                     SparseMlp(parts, index, {"block_sparse_moe", "w1", "w3", "w2"})) {}
};

}  // namespace

std::unique_ptr<Model> build_mixtral(const Parts& parts) { return stack_of<MixtralLayer>(parts, 0); }

}  // namespace retort
