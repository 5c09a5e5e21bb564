#include "teacher/bridged_cache.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data
#include "distill/objective.h"
#include "forest/random_samples.h"  // tests/forest
#include "models/golden_llama.h"    // tests/models
#include "teacher/teach.h"
#include "text/byte_tokenizer.h"  // tests/text
#include "where.h"                // tests

namespace retort {
namespace {

// As many one-byte tokens as the tiny model has.
class Letters : public ByteTokenizer {
 public:
  explicit Letters(int64_t count) : ByteTokenizer({}), count_(count) {}
  int64_t size() const override { return count_; }

 private:
  int64_t count_;
};

class BridgedDistillation : public testing::Test {
 protected:
  BridgedDistillation() {
    teacher = golden_llama().model;
    student = golden_llama(3).model;
    student->head.linear.weight.dense.requires_grad_();
    vocabulary = student->head.linear.weight.rows;
    samples = random_samples(Draws(1, "samples"), 8, 20, 6);
  }
  std::shared_ptr<const TeacherCache> cache() {
    const auto made_from = cache_provenance({"w", "t", "c", "f32", 1}, samples, keep);
    const TeachJob job{*teacher,  at::kFloat, vocabulary, 1, samples, folder / "cache",
                       made_from, keep,       64,         1, 0,       1};
    teach(job);
    return open_whole_cache(job);
  }
  std::pair<double, Tensor> evaluated(const Objective& objective) {
    const auto forest = build_forests(samples, 1000)[0];
    auto pass = make_pass(forest, at::kFloat);
    pass.training = true;
    const auto loss = objective(*student, forest, pass);
    return {loss.nats.item<double>(),
            torch::autograd::grad({loss.nats}, {student->head.linear.weight.dense})[0]};
  }
  std::unique_ptr<Model> teacher, student;
  int64_t vocabulary = 0;
  std::vector<Sample> samples;
  KeepSpec keep;
  TemporaryFolder folder;
};

TEST_F(BridgedDistillation, EqualTokenizersReproducePlainDistillation) {
  const Letters letters(vocabulary);
  const auto kept = cache();
  const auto bridged = std::make_shared<const BridgedCache>(kept, letters, samples, letters, samples);
  EXPECT_EQ(bridged->coverage().positions, 8 * 14);
  EXPECT_EQ(bridged->coverage().heard, 8 * 14);
  EXPECT_NEAR(bridged->coverage().mass, 1, 1e-6);
  for (const auto& divergence : divergences())
    for (const double weight : {0.6, 1.0}) {
      const DistillSpec spec{.loss = std::string(divergence.name), .weight = weight};
      const auto plain = evaluated(cached_distillation(spec, kept));
      const auto carried =
          evaluated(kept_distillation(spec, {[bridged](Context context) { return bridged->find(context); },
                                             bridged->vocabulary(), bridged->sampled()}));
      EXPECT_NEAR(carried.first / plain.first, 1, 1e-6) << divergence.name;
      EXPECT_LT(((carried.second - plain.second).abs().max() / plain.second.abs().max()).item<double>(), 1e-6)
          << divergence.name;
    }
}

// The teacher knows two of the samples only: at the others the data alone teaches, with its whole weight.
TEST_F(BridgedDistillation, WhereTheTeacherIsNotHeardTheDataTeaches) {
  const Letters letters(vocabulary);
  const std::vector<Sample> known(samples.begin(), samples.begin() + 2);
  const auto bridged = std::make_shared<const BridgedCache>(cache(), letters, known, letters, samples);
  EXPECT_EQ(bridged->coverage().heard, 2 * 14);
  const DistillSpec spec{.loss = "reverse_kl", .weight = 0.8};
  const auto objective = kept_distillation(
      spec, {[bridged](Context context) { return bridged->find(context); }, vocabulary, true});
  const auto all = evaluated(objective);
  const std::vector<Sample> everything = samples, others(samples.begin() + 2, samples.end());
  samples = known;
  const auto taught = evaluated(objective);
  samples = others;
  const auto data = evaluated(next_token_objective());
  EXPECT_NEAR(all.first / (taught.first + data.first), 1, 1e-5);
  EXPECT_LT(((all.second - taught.second - data.second).abs().max() / all.second.abs().max()).item<double>(),
            1e-5);
}

// What the pair of the real run is: SmolLM2's byte-level tokens and Mistral's SentencePiece tokens of one
// answer.
TEST(BridgedPlaces, SmolLm2AndMistralMeetOnTheSameText) {
  const std::filesystem::path root = source_dir(),
                              gguf = root / "checkpoints/smollm2-135m-instruct-q4_1.gguf",
                              sentencepiece =
                                  root / "third_party/inputs/mistral/mistral_common/data/tokenizer.model.v1";
  if (!std::filesystem::exists(gguf) || !std::filesystem::exists(sentencepiece))
    GTEST_SKIP() << "run tools/setup inputs";
  const auto smol = load_model({.path = gguf.string()}).tokenizer;
  const auto mistral = tokenizer_from_sentencepiece(read_text(sentencepiece), sentencepiece.string());
  const std::string answer = "Category: Copyleft Limited\nObligations: keep notices; état des 42 lieux";
  const auto sample_of = [&](const Tokenizer& tokenizer, int32_t end) {
    Sample sample{{1}, {0}, "x"};
    for (const auto id : tokenizer.encode(answer)) sample.tokens.push_back(id), sample.weights.push_back(1);
    sample.tokens.push_back(end), sample.weights.push_back(1);
    return sample;
  };
  const auto theirs = sample_of(*smol, *smol->eos), ours = sample_of(*mistral, *mistral->eos);
  int64_t lost = 0;
  const auto places = bridge_places(ours, *mistral, theirs, *smol, &lost);
  EXPECT_EQ(static_cast<int64_t>(places.size()) + lost, static_cast<int64_t>(ours.tokens.size()) - 1);
  EXPECT_LE(lost, 1);  // the space that SentencePiece puts in front
  // A teacher that is sure of the text: its mass goes to a token of the student that begins what is left of
  // its own, and to the student's own next token wherever the two end together.
  const ByteBridge bridge(*smol, *mistral);
  const auto their_contexts = contexts(theirs.tokens), our_contexts = contexts(ours.tokens);
  int64_t together = 0;
  for (const auto& [context, place] : places) {
    const auto at = static_cast<size_t>(std::find(our_contexts.begin(), our_contexts.end(), context) -
                                        our_contexts.begin()) +
                    1;
    const auto next =
        static_cast<size_t>(std::find(their_contexts.begin(), their_contexts.end(), place.context) -
                            their_contexts.begin()) +
        1;
    SparseRow row;
    row.ids = {theirs.tokens[next]}, row.p = {1}, row.head = 1;
    const auto carried = bridge.carry(row, place.prefix);
    ASSERT_EQ(carried.row.ids.size(), 1u);
    EXPECT_NEAR(carried.covered, 1, 1e-6);
    const auto left = smol->token_bytes(theirs.tokens[next]).substr(place.prefix.size()),
               met = mistral->token_bytes(carried.row.ids[0]);
    EXPECT_TRUE(left.starts_with(met)) << left << " | " << met;
    if (left != mistral->token_bytes(ours.tokens[at])) continue;
    ++together;
    EXPECT_EQ(carried.row.ids[0], ours.tokens[at]) << left;
  }
  EXPECT_GE(together, 8);
}

}  // namespace
}  // namespace retort
