// The token after the next, predicted by the layer behind the last (model.mtp): its loss, what it trains, and
// that it does not matter how texts are packed and layers are walked.
#include <torch/csrc/autograd/autograd.h>

#include "base/error.h"
#include "formats/golden_file.h"  // tests/formats
#include "models/deepseek.h"
#include "models/mtp_folder.h"  // tests/models
#include "train/step.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

constexpr double kWeight = 0.3;
const std::vector<std::vector<int32_t>> kTexts = {{3, 14, 15, 92, 65, 35, 8, 9, 79, 32}, {38, 46, 26, 43}};

struct MtpRun {
  explicit MtpRun(const AdapterSpec& adapter, const std::string& family = "deepseek_v3", ModelSpec spec = {})
      : loaded(load_weights(of(std::move(spec), folder, family))),
        leaves(attach(*loaded.model, adapter, 3)) {}
  static ModelSpec of(ModelSpec spec, const TemporaryFolder& folder, const std::string& family) {
    spec.path = mtp_folder(folder / "mtp", family);
    spec.mtp = true;
    return spec;
  }
  void move_b() {  // away from B = 0, where A has no gradient
    for (auto& [name, tensor, place] : leaves)
      if (name.ends_with("lora_B.weight")) {
        const at::NoGradGuard no_graph;
        tensor->copy_(at::arange(tensor->numel(), at::kFloat).sin().view_as(*tensor).mul_(0.1));
      }
  }
  std::vector<Tensor> tensors() const {
    std::vector<Tensor> all;
    for (const auto& leaf : leaves) all.push_back(*leaf.tensor);
    return all;
  }

  const TemporaryFolder folder;
  LoadedModel loaded;
  std::vector<NamedTensor> leaves;
};

AdapterSpec on(std::vector<std::string> targets) {
  auto spec = lora();
  spec.targets = std::move(targets);
  return spec;
}
AdapterSpec nothing() {
  AdapterSpec spec;
  spec.kind = "none";
  return spec;
}

Forest apart(const std::vector<std::vector<int32_t>>& texts) {
  Forest forest;
  for (const auto& text : texts) {
    const auto begin = static_cast<int32_t>(forest.size());
    forest.add_segment(text);
    for (size_t i = 1; i < text.size(); ++i)
      forest.targets.push_back({begin + static_cast<int32_t>(i) - 1, text[i], 1, 0});
  }
  return forest;
}

double nats_of(const Objective& objective, const MtpRun& run, const Forest& forest) {
  const at::NoGradGuard no_graph;
  return objective(*run.loaded.model, forest, make_pass(forest, at::kFloat)).nats.item<double>();
}

std::vector<Tensor> gradients_of(const Objective& objective, const MtpRun& run, const Forest& forest) {
  const auto nats = objective(*run.loaded.model, forest, make_pass(forest, at::kFloat)).nats;
  return torch::autograd::grad({nats}, run.tensors(), {}, std::nullopt, false, /*allow_unused=*/true);
}

Tensor normed(const Tensor& x, const Tensor& weight, double epsilon) {
  return x * (x.square().mean({-1}, /*keepdim=*/true) + epsilon).rsqrt() * weight;
}

StepSums sums_of(const MtpRun& run, const StepPlan& plan, at::ScalarType compute, int64_t threads) {
  const auto make = [compute](const Forest& forest, int64_t index) {
    auto pass = make_pass(forest, compute);
    pass.training = true;
    pass.dropout_key = static_cast<uint64_t>(100 + index);
    return pass;
  };
  StepSums sums;
  EXPECT_TRUE(add_gradients({*run.loaded.model, two_token_objective(kWeight), plan, make, threads},
                            run.tensors(), sums));
  return sums;
}

}  // namespace

// arXiv:2412.19437, section 2.2, text by text: the model's parts where others test them, the rest by hand.
TEST(Mtp, ItsLossIsThatOfTheTokenAfterTheNext) {
  for (const auto* family : {"deepseek_v3", "deepseek_v32", "glm4_moe_lite"}) {
    const MtpRun run(nothing(), family);
    const auto& model = *run.loaded.model;
    const auto& layers = dynamic_cast<const Stack<DeepseekLayer>&>(model).layers;
    const auto file = open_safetensors_folder(run.folder / "mtp");
    const auto behind = fmt::format("model.layers.{}.", model.config.layers);
    const auto part = [&](const std::string& name) { return tensor_of(file, behind + name); };
    const auto epsilon = model.config.norm_epsilon;
    const at::NoGradGuard no_graph;
    double expected = 0;
    for (const auto& text : kTexts) {
      const auto whole = apart({text});
      const auto hidden = model.hidden(make_pass(whole, at::kFloat));
      const std::vector<int32_t> later(text.begin() + 1, text.end());
      const auto rows = static_cast<int64_t>(later.size());
      Forest own;
      own.add_segment(later);
      const auto pass = make_pass(own, at::kFloat);
      const auto next = widen(model.embedding.weight, at::kFloat).index_select(0, pass.tokens);
      const auto joined = at::cat({normed(next, part("enorm.weight"), epsilon),
                                   normed(hidden.narrow(0, 0, rows), part("hnorm.weight"), epsilon)},
                                  1)
                              .matmul(part("eh_proj.weight").t());
      // The layer behind the last is the last one again (mtp_folder.h).
      const auto states =
          normed(layers.back().forward(joined, pass), part("shared_head.norm.weight"), epsilon);
      const auto log_p = states.matmul(widen(model.head.linear.weight, at::kFloat).t()).log_softmax(-1);
      for (int64_t i = 0; i + 1 < rows; ++i)
        expected -= log_p[i][later[static_cast<size_t>(i + 1)]].item<double>();
    }
    const auto forest = apart(kTexts);
    const auto both = nats_of(two_token_objective(kWeight), run, forest),
               alone = nats_of(next_token_objective(), run, forest);
    EXPECT_GT(expected, 1) << family;
    EXPECT_NEAR((both - alone) / (kWeight * expected), 1, 1e-4) << family;
    EXPECT_EQ(nats_of(two_token_objective(0), run, forest), alone) << family;
  }
}

// transformers' own layers, norms and rotation, put together as the publishers' code does
// (tools/golden/mtp.py).
TEST(Mtp, LogitsLossAndGradientsEqualThoseOfTransformersParts) {
  for (const auto* family : {"deepseek_v3", "glm4_moe_lite"}) {
    const auto folder = golden_folder(std::string("mtp/") + family);
    const auto record = read_json(folder / "golden.json");
    const auto reference = open_safetensors(folder / "golden.safetensors");
    const auto loaded = load_weights({.path = folder.string(), .mtp = true});
    AdapterSpec full;
    full.kind = "full";
    const auto leaves = attach(*loaded.model, full, 1);
    const auto& model = *loaded.model;
    const auto rows = record["rows"].get<std::vector<std::vector<int32_t>>>();
    const auto forest = apart(rows);
    const auto pass = make_pass(forest, at::kFloat);
    for (size_t i = 0; i < rows.size(); ++i) {
      const at::NoGradGuard no_graph;
      const auto hidden = model.hidden(make_pass(apart({rows[i]}), at::kFloat));
      Forest own;
      own.add_segment({rows[i].begin() + 1, rows[i].end()});
      const auto states = model.mtp_states(hidden.narrow(0, 0, own.size()), make_pass(own, at::kFloat));
      const auto count = static_cast<int32_t>(own.size());
      const std::vector<int32_t> last{count - 4, count - 3, count - 2, count - 1};
      EXPECT_LT(distance(logits(states, last, model.head, pass),
                         tensor_of(reference, "logits." + std::to_string(i))),
                1e-5)
          << family << " row " << i;
    }
    const auto weight = record["weight"].get<double>();
    const auto loss = two_token_objective(weight)(model, forest, pass);
    EXPECT_NEAR(loss.nats.item<double>() /
                    (record["next"].get<double>() + weight * record["after_the_next"].get<double>()),
                1, 1e-5)
        << family;
    std::vector<Tensor> inputs;
    for (const auto& leaf : leaves) inputs.push_back(*leaf.tensor);
    const auto gradients =
        torch::autograd::grad({loss.nats}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);
    int compared = 0;
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (!reference.find("grad." + leaves[i].name)) continue;
      const auto ours = gradients[i].defined() ? gradients[i] : at::zeros_like(inputs[i]);
      EXPECT_LT(distance(ours, tensor_of(reference, "grad." + leaves[i].name)), 3e-5)
          << family << " " << leaves[i].name;
      ++compared;
    }
    int expected = 0;
    for (const auto& tensor : reference.tensors) expected += tensor.name.starts_with("grad.");
    EXPECT_EQ(compared, expected) << family;
  }
}

TEST(Mtp, SharedPromptsGiveTheLossAndTheGradientsOfTextsApart) {
  MtpRun run(on({"auto", "mtp"}));
  run.move_b();
  std::vector<std::vector<int32_t>> texts;
  std::vector<Sample> samples;
  for (int32_t i = 0; i < 4; ++i) {
    auto text = kTexts[0];
    if (i < 3) text.insert(text.end(), kTexts[1].begin(), kTexts[1].end());
    for (int32_t j = 0; j < 2 + i; ++j) text.push_back(20 + 7 * i + j);
    texts.push_back(text);
    samples.push_back({text, std::vector<float>(text.size(), 1), ""});
  }
  const auto forests = build_forests(samples, 1000, 2);
  ASSERT_EQ(forests.size(), 1u);
  ASSERT_GT(forests[0].segments.size(), 4u);
  const auto objective = two_token_objective(kWeight);
  EXPECT_NEAR(nats_of(objective, run, forests[0]) / nats_of(objective, run, apart(texts)), 1, 1e-5);
  const auto shared = gradients_of(objective, run, forests[0]),
             plain = gradients_of(objective, run, apart(texts));
  for (size_t i = 0; i < plain.size(); ++i) {
    ASSERT_TRUE(shared[i].defined() && plain[i].defined()) << run.leaves[i].name;
    EXPECT_LT(distance(shared[i], plain[i]), 3e-5) << run.leaves[i].name;
  }
}

TEST(Mtp, TargetsSayWhatIsTrained) {
  const auto names_of = [](const std::vector<std::string>& targets) {
    const MtpRun run(on(targets));
    std::vector<std::string> inside, beyond;
    for (const auto& leaf : run.leaves)
      if (leaf.name.ends_with("lora_A.weight"))
        (leaf.name.find("layers.3.") != std::string::npos ? beyond : inside).push_back(leaf.name);
    return std::pair(inside, beyond);
  };
  EXPECT_TRUE(names_of({"auto"}).second.empty());
  EXPECT_TRUE(names_of({"all"}).second.empty());
  EXPECT_TRUE(names_of({"o_proj"}).second.empty());
  const auto [inside, behind] = names_of({"mtp"});
  EXPECT_TRUE(inside.empty());
  EXPECT_EQ(behind, (std::vector<std::string>{
                        "base_model.model.model.layers.3.eh_proj.lora_A.weight",
                        "base_model.model.model.layers.3.self_attn.q_a_proj.lora_A.weight",
                        "base_model.model.model.layers.3.self_attn.q_b_proj.lora_A.weight",
                        "base_model.model.model.layers.3.self_attn.kv_a_proj_with_mqa.lora_A.weight",
                        "base_model.model.model.layers.3.self_attn.kv_b_proj.lora_A.weight",
                        "base_model.model.model.layers.3.self_attn.o_proj.lora_A.weight"}));
  const auto both = names_of({"auto", "mtp"});
  EXPECT_EQ(both.second, behind);
  EXPECT_EQ(both.first, names_of({"auto"}).first);
  EXPECT_EQ(names_of({"mtp", "shared_experts.up_proj"}).second.size(), behind.size() + 1);
}

// The next token's loss does not reach the layer behind the last; the other one's reaches the whole model.
TEST(Mtp, EachLossReachesWhatItIsComputedFrom) {
  MtpRun run(on({"auto", "mtp"}));
  run.move_b();
  const auto forest = apart(kTexts);
  const auto next = gradients_of(next_token_objective(), run, forest),
             both = gradients_of(two_token_objective(kWeight), run, forest);
  int behind = 0, changed = 0;
  for (size_t i = 0; i < both.size(); ++i) {
    const bool mtp = run.leaves[i].name.find("layers.3.") != std::string::npos;
    behind += mtp;
    EXPECT_EQ(next[i].defined(), !mtp) << run.leaves[i].name;
    ASSERT_TRUE(both[i].defined()) << run.leaves[i].name;
    if (!mtp) changed += !at::equal(next[i], both[i]);
  }
  EXPECT_EQ(behind, 12);
  EXPECT_GT(changed, 0);
}

// Where every weight learns, the step's sums are what the graph of a forest gives without them: embedding and
// head are used twice.
TEST(Mtp, OfAFullTrainingEveryWeightGetsItsGradient) {
  AdapterSpec full;
  full.kind = "full";
  const MtpRun run(full);
  const auto samples = made_up_samples(3, 4);
  const auto plan = plan_step(samples, first(3), 1000, 1);
  ASSERT_EQ(plan.forests.size(), 1u);
  const auto sums = sums_of(run, plan, at::kFloat, 1);
  auto pass = make_pass(plan.forests[0], at::kFloat);
  pass.training = true;
  const auto loss = two_token_objective(kWeight)(*run.loaded.model, plan.forests[0], pass);
  EXPECT_NEAR(sums.nats / loss.nats.item<double>(), 1, 1e-6);
  EXPECT_EQ(sums.weight, loss.weight);
  const auto gradients =
      torch::autograd::grad({loss.nats}, run.tensors(), {}, std::nullopt, false, /*allow_unused=*/true);
  int compared = 0;
  for (size_t i = 0; i < gradients.size(); ++i) {
    ASSERT_EQ(gradients[i].defined(), sums.gradients[i].defined()) << run.leaves[i].name;
    if (!gradients[i].defined()) continue;  // an expert that no token went to
    EXPECT_LT(distance(sums.gradients[i], gradients[i]), 1e-5) << run.leaves[i].name;
    ++compared;
  }
  EXPECT_GT(compared, 50);
}

TEST(Mtp, LayerByLayerGivesTheBitsOfTokenMajor) {
  ModelSpec small;
  small.schedule = "layers";
  small.memory = "24KiB";
  for (const auto* family : {"deepseek_v3", "deepseek_v32", "glm4_moe_lite"})
    for (const auto& targets : {std::vector<std::string>{"auto", "mtp"}, std::vector<std::string>{"mtp"}})
      for (const auto compute : {at::kFloat, at::kBFloat16}) {
        auto spec = on(targets);
        spec.dropout = 0.1;
        MtpRun resident(spec, family), streamed(spec, family, small);
        ASSERT_EQ(resident.loaded.model->stream(), nullptr);
        ASSERT_NE(streamed.loaded.model->stream(), nullptr);
        resident.move_b(), streamed.move_b();
        const auto plan = plan_step(made_up_samples(12, 4), first(12), 40, 2);
        ASSERT_GT(plan.forests.size(), 2u);
        const auto one = sums_of(resident, plan, compute, 2), other = sums_of(streamed, plan, compute, 2);
        const auto where = fmt::format("{} {} targets", family, targets.size());
        EXPECT_EQ(one.nats, other.nats) << where;
        EXPECT_EQ(one.weight, other.weight) << where;
        ASSERT_EQ(one.gradients.size(), other.gradients.size()) << where;
        for (size_t i = 0; i < one.gradients.size(); ++i) {
          ASSERT_TRUE(one.gradients[i].defined() && other.gradients[i].defined())
              << where << " " << resident.leaves[i].name;
          EXPECT_TRUE(at::equal(one.gradients[i], other.gradients[i]))
              << where << " " << resident.leaves[i].name;
        }
      }
}

// Trained alone, it learns to predict the token after the next; what the model says next stays as it was.
TEST(Mtp, TrainedAloneItLearnsAndTheModelStays) {
  MtpRun run(on({"mtp"}));
  const TemporaryFolder out;
  const auto samples = made_up_samples(8, 1);
  const auto plan = plan_step(samples, first(8), 1000, 1);
  const auto losses = [&] {
    double both = 0, alone = 0;
    for (const auto& forest : plan.forests) {
      both += nats_of(two_token_objective(1), run, forest);
      alone += nats_of(next_token_objective(), run, forest);
    }
    return std::pair(both - alone, alone);
  };
  const auto before = losses();
  auto spec = tiny_spec();
  spec.steps = 40;
  spec.threads = 1;
  const TrainJob job{.model = *run.loaded.model,
                     .trainables = run.leaves,
                     .samples = samples,
                     .held_out = {},
                     .objective = two_token_objective(1),
                     .folder = out / "run"};
  train(spec, job);
  const auto after = losses();
  EXPECT_LT(after.first, 0.95 * before.first);
  EXPECT_EQ(after.second, before.second);
}

// Embedding and head are the model's own; a copy that is another matrix would be overwritten by exports.
TEST(Mtp, ACopyThatIsAnotherMatrixIsRefused) {
  const TemporaryFolder folder;
  const auto original = open_safetensors_folder(mtp_folder(folder / "equal", "deepseek_v3"));
  for (const std::string name :
       {"model.layers.3.embed_tokens.weight", "model.layers.3.shared_head.head.weight"}) {
    const auto* copy = original.find(name);
    ASSERT_TRUE(copy) << name;
    std::vector<std::byte> other(copy->data.begin(), copy->data.end());
    other[0] ^= std::byte{1};
    std::vector<TensorSource> tensors;
    for (const auto& tensor : original.tensors)
      tensors.push_back(tensor_source(tensor.name, tensor.type, tensor.shape,
                                      tensor.name == name ? std::span<const std::byte>(other) : tensor.data));
    const auto path = folder / name;
    write_safetensors_folder(path, tensors, 1 << 30);
    write_text(std::filesystem::path(path) / "config.json",
               read_text(std::filesystem::path(folder / "equal") / "config.json"));
    std::string said = "accepted";
    try {
      load_weights({.path = path, .mtp = true});
    } catch (const RecipeError& error) { said = error.what(); }
    EXPECT_NE(said.find("has a " + name + " that is another matrix than "), std::string::npos) << said;
    load_weights({.path = path});  // where the layer is not read, nobody computes with it
  }
}

TEST(Mtp, IsRefusedWhereThereIsNone) {
  const auto refusal = [](const ModelSpec& spec, const AdapterSpec& adapter) -> std::string {
    try {
      const auto loaded = load_weights(spec);
      attach(*loaded.model, adapter, 1);
    } catch (const Error& error) { return error.what(); }
    return "accepted";
  };
  const auto golden = golden_folder("models/deepseek_v3").string();
  auto said = refusal({.path = golden, .mtp = true}, nothing());
  EXPECT_NE(said.find("model.mtp: "), std::string::npos) << said;
  EXPECT_NE(said.find("has no model.layers.3.eh_proj"), std::string::npos) << said;
  said = refusal({.path = golden}, on({"mtp"}));
  EXPECT_NE(said.find("adapter.targets: 'mtp' is the layer behind the last"), std::string::npos) << said;
  const TemporaryFolder folder;
  const auto path = mtp_folder(folder / "llama", "llama");  // a layer of this name is none of Llama's
  said = refusal({.path = path, .mtp = true}, nothing());
  EXPECT_NE(said.find("is not computed for models of the family llama"), std::string::npos) << said;
  const auto counted = mtp_folder(folder / "v3", "deepseek_v3");
  EXPECT_GT(load_weights({.path = counted}).beyond, 0u);
  EXPECT_EQ(load_weights({.path = counted, .mtp = true}).beyond, 0u);
}

}  // namespace retort
