// Qwen 3 (arXiv:2505.09388): Llama's layer with RMSNorm over each head of q and k before the rotation.
#include "models/families.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct Qwen3Layer : PreNormLayer<GatedMlp> {
  Qwen3Layer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), GatedMlp(parts, index, Activation::silu)) {
    norm_heads(parts, index);
  }
};

}  // namespace

std::unique_ptr<Model> build_qwen3(const Parts& parts) { return stack_of<Qwen3Layer>(parts, 0); }

}  // namespace retort
