// Adapters on folders of bitsandbytes, GPTQ, AWQ, MXFP4 and NVFP4: they learn what they would on the widened
// weights, and go out in every form.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <numeric>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "adapters/merge.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"  // tests/export
#include "ops/tensors.h"         // tests/ops

namespace retort {
namespace {

const std::vector<int32_t> kIds = {1, 14, 15, 92, 65, 35, 8, 9, 79, 32, 38, 46, 26, 43, 38};

Tensor logits_of(const LoadedModel& loaded) {
  Forest forest;
  forest.add_segment(kIds);
  const at::NoGradGuard no_graph;
  std::vector<int32_t> rows(kIds.size());
  std::iota(rows.begin(), rows.end(), 0);
  const auto pass = make_pass(forest, at::kFloat);
  return logits(loaded.model->hidden(pass), rows, loaded.model->head, pass);
}

double distance(const Tensor& found, const Tensor& expected) {
  return ((found - expected).abs().max() / expected.abs().max()).item<double>();
}

class FourBitExport : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  TemporaryFolder folder;
  std::string base =
      tiny_folder(folder / "tiny", std::string("four_bit/") + std::get<0>(GetParam()), tiny_tokenizer(96))
          .string();
  AdapterSpec spec{
      .kind = std::get<1>(GetParam()), .rank = 4, .alpha = 6, .targets = {"all"}, .modules_to_save = {}};

  // An adapter that is not zero any more.
  LoadedModel adapted(const std::string& weights) {
    auto loaded = load_model({.path = base, .weights = weights, .compute = "f32"});
    const at::NoGradGuard no_graph;
    for (auto& [name, tensor, place] : attach(*loaded.model, spec, 1))
      if (name.find("lora_B") != std::string::npos)
        tensor->copy_(at::arange(tensor->numel(), at::kFloat).sin().view_as(*tensor).mul_(0.05));
    return loaded;
  }
};

TEST_P(FourBitExport, GradientsAreThoseOnTheWidenedWeights) {
  const auto gradients = [&](const std::string& weights) {
    const auto loaded = adapted(weights);
    std::vector<Tensor> leaves;
    for (auto& [name, tensor, place] : trainables(*loaded.model)) leaves.push_back(tensor->requires_grad_());
    Forest forest;
    forest.add_segment(kIds);
    const auto loss = loaded.model->hidden(make_pass(forest, at::kFloat)).pow(3).sum();
    auto all = torch::autograd::grad({loss}, leaves);
    all.push_back(loss.detach());
    return all;
  };
  const auto kept = gradients("keep"), wide = gradients("f32");
  ASSERT_GT(kept.size(), 28u);
  for (size_t i = 0; i < kept.size(); ++i) {
    EXPECT_TRUE(at::equal(kept[i], wide[i])) << i;
    EXPECT_GT(kept[i].abs().max().item<float>(), 0) << i;
  }
}

TEST_P(FourBitExport, MergedFolderAndGgufAndAdapterComputeTheSame) {
  auto loaded = adapted("keep");
  const auto expected = logits_of(loaded);
  write_hf_folder(folder / "merged", loaded, WeightType::f32, uint64_t{1} << 30, 1);
  EXPECT_FALSE(
      read_json(std::filesystem::path(folder / "merged") / "config.json").contains("quantization_config"));
  EXPECT_LT(distance(logits_of(load_model({.path = folder / "merged", .compute = "f32"})), expected), 1e-5);
  write_gguf_model(folder / "model.gguf", loaded, *mixture_from_name("F32"), true, 1);
  EXPECT_LT(distance(logits_of(load_model({.path = folder / "model.gguf", .compute = "f32"})), expected),
            1e-5);
  write_hf_folder(folder / "bf16", loaded, WeightType::bf16, uint64_t{1} << 30, 1);
  EXPECT_LT(distance(logits_of(load_model({.path = folder / "bf16", .compute = "f32"})), expected), 0.1);

  // The adapter on another file of the same model, as on the 16-bit original.
  write_peft_adapter(folder / "adapter", loaded, spec);
  auto plain = load_model({.path = base, .compute = "f32"});
  write_hf_folder(folder / "plain", plain, WeightType::f32, uint64_t{1} << 30, 1);
  auto original = load_model({.path = folder / "plain", .compute = "f32"});
  EXPECT_GT(distance(logits_of(original), expected), 1e-3);
  load_adapter(original, folder / "adapter");
  EXPECT_LT(distance(logits_of(original), expected), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(
    , FourBitExport,
    testing::Combine(testing::Values("bitsandbytes", "gptq", "awq", "mxfp4", "nvfp4", "modelopt"),
                     testing::Values("lora", "rslora", "dora")),
    [](const auto& test) { return std::string(std::get<0>(test.param)) + "_" + std::get<1>(test.param); });

}  // namespace
}  // namespace retort
