#include "export/merged.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <memory>

#include "adapters/merge.h"
#include "base/error.h"
#include "base/ordered_work.h"
#include "base/stop.h"
#include "models/tensor_names.h"
#include "quant/finite.h"

namespace retort {
namespace {

// A product's last bits depend on how many threads share it, and a process that trained before it exports has
// another number set than one that finds the training done.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

MergedTensor vector_tensor(const Named<const Tensor>& vector) {
  const auto values = *vector.tensor;
  if (vector.place.role == Role::router) {
    return {vector.name, values.sizes().vec(), vector.place, [values](int64_t first, int64_t count) {
              return values.detach().narrow(0, first, count).to(at::kFloat).contiguous();
            }};
  }
  return {vector.name, values.sizes().vec(), vector.place, [values](int64_t, int64_t) {
            return values.detach().to(at::kFloat).reshape({1, -1}).contiguous();
          }};
}

MergedTensor matrix_tensor(const ModelConfig& config, const Linear& layer) {
  return {tensor_name(config, layer.place),
          {layer.weight.rows, layer.weight.columns},
          layer.place,
          [&layer](int64_t first, int64_t count) {
            return merged_rows(layer, first, count).detach().contiguous();
          }};
}

MergedTensor copy_behind(const ModelConfig& config, const Linear& layer, const char* name) {
  auto copy = matrix_tensor(config, layer);
  copy.name = fmt::format("model.layers.{}.{}.weight", config.layers, name);
  copy.place.layer = config.layers;
  return copy;
}

}  // namespace

std::vector<MergedTensor> merged_tensors(const Model& model) {
  const auto& config = model.config;
  std::vector<MergedTensor> tensors;
  tensors.push_back(matrix_tensor(config, model.embedding));
  for (const auto* layer : model.linears()) tensors.push_back(matrix_tensor(config, *layer));
  // Norms, routers and the biases of linear layers, each once.
  for (const auto& vector : model.vectors()) tensors.push_back(vector_tensor(vector));
  if (!config.tied_head) tensors.push_back(matrix_tensor(config, model.head.linear));
  if (config.mtp_layers > 0) {  // the published layer has copies of both
    tensors.push_back(copy_behind(config, model.embedding, "embed_tokens"));
    tensors.push_back(copy_behind(config, model.head.linear, "shared_head.head"));
  }
  return tensors;
}

Bytes encode_rows(const std::string& name, WeightType type, const Tensor& values) {
  const auto rows = values.size(0), columns = values.size(1);
  Bytes encoded(static_cast<size_t>(rows) * *row_bytes(type, static_cast<uint64_t>(columns)));
  quantize_rows(type, values.const_data_ptr<float>(), encoded.data(), rows, columns);
  if (first_not_finite(type, encoded))
    throw RecipeError(fmt::format(
        "export: {} has values of up to {:.4g}, which {} cannot hold (it ends at {}); export bf16 or f32",
        printable(name), values.abs().max().item<double>(), type_info(type).name,
        type == WeightType::f32 || type == WeightType::bf16 ? "3.39e38" : "65504"));
  return encoded;
}

void encode_in_order(int64_t rows, int64_t chunk_rows, int64_t threads,
                     const std::function<Bytes(int64_t first, int64_t count)>& encode,
                     const std::function<void(std::span<const std::byte>)>& sink) {
  OrderedWork work(threads, static_cast<size_t>(kChunksAThread * threads));
  for (int64_t first = 0; first < rows; first += chunk_rows) {
    leave_if_stopped("exporting");
    work.add([&, first]() -> OrderedWork::Later {
      const OneThread alone;
      auto encoded = std::make_shared<const Bytes>(encode(first, std::min(chunk_rows, rows - first)));
      return [&sink, encoded] { sink(*encoded); };
    });
  }
  work.finish();
}

}  // namespace retort
