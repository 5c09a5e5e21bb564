// Objectives over a tiny model: gradients against LibTorch composed by hand, caches against the live teacher.
#include "distill/objective.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <sys/wait.h>
#include <unistd.h>
#include <cmath>
#include <csignal>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/golden_llama.h"    // tests/models
#include "teacher/teach.h"
#include "text/byte_tokenizer.h"  // tests/text

namespace retort {
namespace {

// The tiny model with a head of its own, drawn from `seed`, with `padding` more rows that would win every
// softmax.
std::shared_ptr<Model> variant(uint64_t seed, int64_t padding = 0, bool trainable = false) {
  std::shared_ptr<Model> model = golden_llama(seed).model;
  auto w = model->head.linear.weight.dense;
  if (padding > 0) w = at::cat({w, at::full({padding, w.size(1)}, 50.0, w.options())});
  model->head.linear.weight = dense_weight(w.set_requires_grad(trainable));
  return model;
}

std::vector<Sample> some_samples(size_t count, uint64_t seed = 1) {
  const Draws draws(seed, "samples");
  std::vector<Sample> samples;
  for (size_t s = 0; s < count; ++s) {
    Sample sample;
    const auto length = 12 + draws.below(s * 1000, 20);
    for (uint64_t i = 0; i < length; ++i) {  // half of them share a prompt of 8 tokens
      sample.tokens.push_back(
          static_cast<int32_t>(3 + draws.below(i < 8 && s % 2 == 0 ? i : s * 1000 + 1 + i, 90)));
      sample.weights.push_back(i < 6 ? 0 : i % 3 == 0 ? 0.5f : 1);
    }
    sample.id = "f:" + std::to_string(s);
    samples.push_back(sample);
  }
  return samples;
}

struct Evaluated {
  double nats, weight;
  Tensor gradient;  // of the head's weight
};
Evaluated evaluated(const Objective& objective, const Model& model, const Forest& forest) {
  auto pass = make_pass(forest, at::kFloat);
  pass.training = true;
  const auto loss = objective(model, forest, pass);
  return {loss.nats.item<double>(), loss.weight,
          torch::autograd::grad({loss.nats}, {model.head.linear.weight.dense})[0]};
}
double distance(const Tensor& ours, const Tensor& reference) {
  return ((ours - reference).abs().max() / reference.abs().max()).item<double>();
}

class Distillation : public testing::Test {
 protected:
  std::shared_ptr<Model> teacher = variant(1), student = variant(2, 0, true);
  std::vector<Sample> samples = some_samples(12);
  Forest forest = build_forests(samples, 10000)[0];
  int64_t vocabulary = student->head.linear.weight.rows;
  TemporaryFolder folder;

  std::shared_ptr<TeacherCache> cached(const KeepSpec& keep, double temperature = 1,
                                       const std::string& name = "cache") {
    const auto made_from = cache_provenance({"w", "t", "c", "f32", temperature}, samples, keep);
    teach({*teacher, at::kFloat, vocabulary, temperature, samples, folder / name, made_from, keep, 64, 1});
    return std::make_shared<TeacherCache>(folder / name, made_from, plan_cache(samples, keep.part_positions),
                                          keep, vocabulary);
  }
};

TEST_F(Distillation, LiveForwardKlEqualsTheDefinitionAtEveryTemperature) {
  double at_one = 0;
  for (const double t : {1.0, 2.0, 4.0}) {
    DistillSpec spec{.temperature = t, .weight = 0.7};
    const auto ours = evaluated(live_distillation(spec, {teacher, at::kFloat, vocabulary}), *student, forest);
    const auto pass = make_pass(forest, at::kFloat);
    const auto h = student->hidden(pass).detach(), taught = teacher->hidden(pass).detach();
    const auto& w = student->head.linear.weight.dense;
    auto reference = at::zeros({}, at::TensorOptions(at::kFloat));
    double weight = 0;
    for (const auto& target : forest.targets) {
      const auto z = at::matmul(w, h[target.row]),
                 y = at::matmul(teacher->head.linear.weight.dense, taught[target.row]);
      const auto log_p = (y / t).log_softmax(-1), log_q = (z / t).log_softmax(-1);
      reference = reference + target.weight * (0.7 * t * t * (log_p.exp() * (log_p - log_q)).sum() -
                                               0.3 * z.log_softmax(-1)[target.label]);
      weight += target.weight;
    }
    EXPECT_NEAR(ours.nats / reference.item<double>(), 1, 1e-5);
    EXPECT_EQ(ours.weight, weight);
    EXPECT_LT(distance(ours.gradient, torch::autograd::grad({reference}, {w})[0]), 1e-5) << t;
    // Without T^2 the gradient would fall to about 1/4 and 1/16.
    const auto size =
        evaluated(live_distillation({.temperature = t, .weight = 1}, {teacher, at::kFloat, vocabulary}),
                  *student, forest)
            .gradient.norm()
            .item<double>();
    if (t == 1) at_one = size;
    EXPECT_GT(size / at_one, 0.5) << t;
    EXPECT_LT(size / at_one, 3) << t;
  }
}

TEST_F(Distillation, PaddedVocabulariesAreCutBeforeTheSoftmax) {
  const auto wide_teacher = variant(1, 7), wide_student = variant(2, 3, true);
  for (const auto& divergence : divergences()) {
    DistillSpec spec{.loss = std::string(divergence.name), .weight = 1};
    const auto plain =
        evaluated(live_distillation(spec, {teacher, at::kFloat, vocabulary}), *student, forest);
    const auto padded =
        evaluated(live_distillation(spec, {wide_teacher, at::kFloat, vocabulary}), *wide_student, forest);
    EXPECT_NEAR(plain.nats, padded.nats, 1e-6 * std::abs(plain.nats)) << divergence.name;
    EXPECT_LT(distance(padded.gradient.narrow(0, 0, vocabulary), plain.gradient), 1e-5) << divergence.name;
    EXPECT_EQ(padded.gradient.narrow(0, vocabulary, 3).abs().max().item<double>(), 0);
  }
  const auto cache = cached({.head = vocabulary, .draws = 0, .precision = 24});
  const DistillSpec spec{.weight = 1};
  EXPECT_NEAR(
      evaluated(cached_distillation(spec, cache), *wide_student, forest).nats,
      evaluated(live_distillation(spec, {wide_teacher, at::kFloat, vocabulary}), *wide_student, forest).nats,
      0.05);
}

TEST_F(Distillation, AWholeCacheEqualsTheLiveTeacher) {
  for (const double t : {1.0, 2.0}) {
    const auto cache =
        cached({.head = vocabulary, .draws = 0, .precision = 24}, t, "whole" + std::to_string(t));
    for (const auto& divergence : divergences()) {
      DistillSpec spec{.loss = std::string(divergence.name), .temperature = t, .weight = 0.6};
      const auto live =
          evaluated(live_distillation(spec, {teacher, at::kFloat, vocabulary}), *student, forest);
      const auto kept = evaluated(cached_distillation(spec, cache), *student, forest);
      EXPECT_NEAR(kept.nats / live.nats, 1, 1e-3) << divergence.name;
      EXPECT_LT(distance(kept.gradient, live.gradient), 2e-3) << divergence.name << " T " << t;
    }
  }
}

// The fused path (T = 1) and the general one give one gradient, and many caches average to the live
// teacher's.
TEST_F(Distillation, TheMeanOverManyCachesIsTheLiveGradient) {
  const DistillSpec spec{.weight = 0.8};
  const auto live = evaluated(live_distillation(spec, {teacher, at::kFloat, vocabulary}), *student, forest);
  Tensor sum, squares;
  double nats = 0;
  constexpr int kCaches = 60;
  for (int seed = 0; seed < kCaches; ++seed) {
    const auto one = evaluated(cached_distillation(spec, cached({.head = 3, .draws = 4, .seed = seed}, 1,
                                                                "c" + std::to_string(seed))),
                               *student, forest);
    sum = sum.defined() ? sum + one.gradient : one.gradient;
    squares = squares.defined() ? squares + one.gradient.square() : one.gradient.square();
    nats += one.nats / kCaches;
  }
  const auto mean = sum / kCaches,
             error = ((squares / kCaches - mean.square()).clamp_min(0) / kCaches).sqrt();
  const auto away =
      (mean - live.gradient).square().sum().item<double>() / error.square().sum().item<double>();
  EXPECT_LT(away, 1.6);  // 1 when nothing but chance separates them
  EXPECT_GT(away, 0.5);
  EXPECT_NEAR(nats / live.nats, 1, 0.02);
}

// The fused sweep of a frozen head against the chunks of one that learns: the same sum, the same gradient
// below the head.
TEST_F(Distillation, AFrozenHeadTeachesTheBodyTheSame) {
  const auto cache = cached({}), warm = cached({}, 2, "warm");
  for (const double t : {1.0, 2.0})
    for (const auto& divergence : divergences()) {
      const auto objective = cached_distillation(
          {.loss = std::string(divergence.name), .temperature = t, .weight = 0.6}, t == 1 ? cache : warm);
      std::vector<Tensor> gradients;
      std::vector<double> nats;
      for (const bool learns : {true, false}) {
        const auto model = variant(2, 0, learns);
        auto& norm = *model->vectors().front().tensor;
        norm.requires_grad_();
        auto pass = make_pass(forest, at::kFloat);
        pass.training = true;
        const auto loss = objective(*model, forest, pass);
        nats.push_back(loss.nats.item<double>());
        gradients.push_back(torch::autograd::grad({loss.nats}, {norm})[0]);
      }
      EXPECT_NEAR(nats[0] / nats[1], 1, 1e-5) << divergence.name;
      EXPECT_LT(distance(gradients[1], gradients[0]), 2e-5) << divergence.name << " T " << t;
    }
}

// The teacher is heard where its entropy, or its distance from the student, is large enough; elsewhere only
// the data counts.
TEST_F(Distillation, SelectedPositionsEqualTheDefinition) {
  const auto pass = make_pass(forest, at::kFloat);
  const auto h = student->hidden(pass).detach(), taught = teacher->hidden(pass).detach();
  const auto& w = student->head.linear.weight.dense;
  const auto cache = cached({.head = vocabulary, .draws = 0, .precision = 24});
  for (const std::string by : {"entropy", "disagreement"}) {
    std::vector<double> amounts;
    std::vector<Tensor> log_ps, log_qs;
    for (const auto& target : forest.targets) {
      log_ps.push_back(at::matmul(teacher->head.linear.weight.dense, taught[target.row]).log_softmax(-1));
      log_qs.push_back(at::matmul(w, h[target.row]).log_softmax(-1));
      const auto p = log_ps.back().exp(), q = log_qs.back().exp();
      amounts.push_back(by == "entropy" ? -(p * log_ps.back()).sum().item<double>()
                                        : (p - q).abs().sum().item<double>() / 2);
    }
    // In the widest gap of the middle: a cache rounds what it keeps.
    auto sorted = amounts;
    std::sort(sorted.begin(), sorted.end());
    size_t gap = sorted.size() / 4;
    for (size_t i = gap; i < 3 * sorted.size() / 4; ++i)
      if (sorted[i + 1] - sorted[i] > sorted[gap + 1] - sorted[gap]) gap = i;
    const double least = (sorted[gap] + sorted[gap + 1]) / 2;
    auto reference = at::zeros({}, at::TensorOptions(at::kFloat));
    for (size_t i = 0; i < forest.targets.size(); ++i) {
      const auto& target = forest.targets[i];
      if (amounts[i] >= least)
        reference = reference + target.weight * 0.7 * (log_ps[i].exp() * (log_ps[i] - log_qs[i])).sum();
      reference = reference - target.weight * 0.3 * log_qs[i][target.label];
    }
    const auto expected = torch::autograd::grad({reference}, {w})[0];
    const DistillSpec spec{.weight = 0.7, .select = SelectSpec{by, least}};
    const auto live = evaluated(live_distillation(spec, {teacher, at::kFloat, vocabulary}), *student, forest);
    EXPECT_NEAR(live.nats / reference.item<double>(), 1, 1e-5) << by;
    EXPECT_LT(distance(live.gradient, expected), 1e-5) << by;
    const auto kept = evaluated(cached_distillation(spec, cache), *student, forest);
    EXPECT_NEAR(kept.nats / live.nats, 1, 1e-3) << by;
    EXPECT_LT(distance(kept.gradient, expected), 2e-3) << by;
  }
}

TEST_F(Distillation, EvaluationIsPlainCrossEntropy) {
  const auto objective = cached_distillation({.weight = 1}, cached({}));
  const auto pass = make_pass(forest, at::kFloat);  // training is false
  EXPECT_EQ(objective(*student, forest, pass).nats.item<float>(),
            next_token_objective()(*student, forest, pass).nats.item<float>());
}

TEST_F(Distillation, NothingOfTheTeacherChanges) {
  const auto before = widen(teacher->head.linear.weight, at::kFloat).clone();
  const auto layer = widen(teacher->linears()[0]->weight, at::kFloat).clone();
  evaluated(live_distillation({.weight = 1}, {teacher, at::kFloat, vocabulary}), *student, forest);
  EXPECT_TRUE(at::equal(before, teacher->head.linear.weight.dense));
  EXPECT_TRUE(at::equal(layer, widen(teacher->linears()[0]->weight, at::kFloat)));
  for (const auto* linear : teacher->linears()) EXPECT_FALSE(linear->weight.trainable());
  EXPECT_FALSE(teacher->head.linear.weight.dense.requires_grad());
}

// 16 samples in one forest, in four, one by one: the same sum, the same rows of the cache.
TEST_F(Distillation, ForestsDoNotMatter) {
  const auto objective = cached_distillation({.loss = "reverse_kl", .weight = 0.5}, cached({}));
  const auto whole = evaluated(objective, *student, forest);
  for (const size_t size : {size_t{1}, size_t{3}}) {
    double nats = 0, weight = 0;
    Tensor gradient;
    for (size_t first = 0; first < samples.size(); first += size) {
      const std::vector<Sample> part(samples.begin() + static_cast<std::ptrdiff_t>(first),
                                     samples.begin() + static_cast<std::ptrdiff_t>(first + size));
      for (const auto& each : build_forests(part, 40)) {
        const auto one = evaluated(objective, *student, each);
        nats += one.nats, weight += one.weight;
        gradient = gradient.defined() ? gradient + one.gradient : one.gradient;
      }
    }
    EXPECT_NEAR(nats / whole.nats, 1, 1e-5);
    EXPECT_EQ(weight, whole.weight);
    EXPECT_LT(distance(gradient, whole.gradient), 1e-5);
  }
}

TEST_F(Distillation, MissingContextsAreAnError) {
  const auto objective = cached_distillation({}, cached({}));
  const auto other = build_forests(some_samples(2, 9), 1000)[0];
  try {
    evaluated(objective, *student, other);
    FAIL();
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("has no row for a context"), std::string::npos);
  }
}

TEST_F(Distillation, ACacheNamesWhatItWasMadeFrom) {
  const KeepSpec keep;
  cached(keep);
  const auto problem = [&](const TeacherIdentity& identity, const std::vector<Sample>& of,
                           const KeepSpec& how) -> std::string {
    try {
      TeacherCache(folder / "cache", cache_provenance(identity, of, how), plan_cache(of, how.part_positions),
                   how, vocabulary);
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  EXPECT_EQ(problem({"w", "t", "c", "f32", 1}, samples, keep), "");
  EXPECT_NE(problem({"x", "t", "c", "f32", 1}, samples, keep).find("teacher (stored: w, now: x)"),
            std::string::npos);
  EXPECT_NE(problem({"w", "u", "c", "f32", 1}, samples, keep).find("tokenizer (stored: t, now: u)"),
            std::string::npos);
  EXPECT_NE(problem({"w", "t", "d", "f32", 1}, samples, keep).find("template (stored: c, now: d)"),
            std::string::npos);
  EXPECT_NE(problem({"w", "t", "c", "f32", 2}, samples, keep).find("temperature (stored: 1, now: 2)"),
            std::string::npos);
  EXPECT_NE(problem({"w", "t", "c", "f32", 1}, samples, {.draws = 6}).find("draws (stored: 7, now: 6)"),
            std::string::npos);
  auto other = samples;
  other[3].tokens[9] ^= 1;
  EXPECT_NE(problem({"w", "t", "c", "f32", 1}, other, keep).find("samples (stored: "), std::string::npos);

  auto bytes = read_text(folder / "cache/part-00000.h5");
  // The rows are the only long run of the file; a flipped bit there is found by the checksum.
  auto flipped = bytes;
  flipped[flipped.size() - 40] = static_cast<char>(flipped[flipped.size() - 40] ^ 4);
  write_text(folder / "cache/part-00000.h5", flipped);
  EXPECT_NE(problem({"w", "t", "c", "f32", 1}, samples, keep), "");
}

std::string folder_hash(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string all;
  for (const auto& file : files) all += file.filename().string() + " " + sha256_file(file) + "\n";
  return all;
}

// Killed (-9) at random moments, continued each time: the same bytes. Read while it grows.
TEST_F(Distillation, AKilledBuildContinuesToTheSameBytes) {
  samples = some_samples(400);
  const KeepSpec keep{.part_positions = 256};
  const auto made_from = cache_provenance({"w", "t", "c", "f32", 1}, samples, keep);
  const auto whole = cached(keep, 1, "whole");
  EXPECT_TRUE(whole->missing_parts().empty());
  EXPECT_GT(whole->planned_positions(), 4000);
  EXPECT_LT(static_cast<double>(whole->file_bytes()) / static_cast<double>(whole->positions()),
            60);  // small parts: most is HDF5's own
  const auto build = [&](int64_t shard, int64_t shards) {
    teach({*teacher, at::kFloat, vocabulary, 1, samples, folder / "killed", made_from, keep, 256, 1, shard,
           shards});
  };
  std::filesystem::create_directories(folder / "killed");
  int kills = 0;
  for (int attempt = 0; attempt < 60; ++attempt) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      build(0, 1);
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(8000 + Draws(3, "kill").below(static_cast<uint64_t>(attempt), 60000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    const TeacherCache growing(folder / "killed", made_from, plan_cache(samples, keep.part_positions), keep,
                               vocabulary);  // reads whatever is there
    if (!WIFSIGNALED(status)) break;
    ++kills;
    if (growing.missing_parts().size() < 3) break;
  }
  EXPECT_GT(kills, 2);
  build(0, 1);
  for (const auto& entry :
       std::filesystem::directory_iterator(folder / "killed"))  // what AtomicFile's owner left behind
    if (entry.path().extension() != ".h5") std::filesystem::remove(entry.path());
  EXPECT_EQ(folder_hash(folder / "killed"), folder_hash(folder / "whole"));
  // Two machines, each half of the parts.
  std::filesystem::remove_all(folder / "killed");
  build(1, 2), build(0, 2);
  EXPECT_EQ(folder_hash(folder / "killed"), folder_hash(folder / "whole"));
}

TEST(Contexts, AreTheTokensBeforeWhateverTheForest) {
  const auto samples = some_samples(12);
  const auto forest = build_forests(samples, 10000)[0];
  const auto here = contexts(forest);
  for (const auto& target : forest.targets) {
    const auto& tokens = samples[static_cast<size_t>(target.sample)].tokens;
    EXPECT_EQ(here[static_cast<size_t>(target.row)],
              contexts(tokens)[static_cast<size_t>(forest.positions[static_cast<size_t>(target.row)])]);
  }
}

TEST(Tokens, TwoSwappedIdsAreRefused) {
  class Renamed : public ByteTokenizer {
   public:
    using ByteTokenizer::ByteTokenizer;
    std::string token_text(int32_t id) const override {
      return ByteTokenizer::token_text(id == 65 ? 66 : id == 66 ? 65 : id);
    }
    std::string hash() const override { return "renamed"; }
  };
  const ByteTokenizer bytes({"<|im_end|>"});
  const Renamed renamed({"<|im_end|>"});
  EXPECT_NO_THROW(require_same_tokens(bytes, bytes));
  try {
    require_same_tokens(renamed, bytes);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("token 65 is 'B' there and 'A' here"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace retort
