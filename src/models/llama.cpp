// Llama 2 and 3, SmolLM2, Mistral: arXiv:2302.13971, arXiv:2407.21783; Mistral's sliding window:
// arXiv:2310.06825.
#include "models/families.h"
#include "models/pre_norm_layer.h"

namespace retort {
namespace {

struct LlamaLayer : PreNormLayer<GatedMlp> {
  LlamaLayer(const Parts& parts, int64_t index, std::shared_ptr<const Rotary> rotary)
      : PreNormLayer(parts, index, std::move(rotary), GatedMlp(parts, index, Activation::silu)) {}
};

}  // namespace

std::unique_ptr<Model> build_llama(const Parts& parts) { return stack_of<LlamaLayer>(parts, 0); }

}  // namespace retort
