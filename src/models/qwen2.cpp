// Qwen 2 and 2.5 (arXiv:2407.10671, arXiv:2412.15115): Llama's layer with biases on q, k and v.
#include "models/families.h"

namespace retort {

std::unique_ptr<Model> build_qwen2(const Parts& parts) {
  if (!parts.config.attention_bias) throw std::logic_error("qwen2 has attention biases");
  return build_llama(parts);  // Attention takes the biases that the configuration asks for
}

}  // namespace retort
