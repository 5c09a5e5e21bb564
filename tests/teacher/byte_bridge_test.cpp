#include "teacher/byte_bridge.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

std::shared_ptr<const Tokenizer> bpe(std::vector<std::string> tokens, std::vector<std::string> merges) {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "gpt-2";
  vocabulary.tokens = std::move(tokens);
  vocabulary.merges = std::move(merges);
  vocabulary.tokens.emplace_back("<|end|>");
  vocabulary.token_types.assign(vocabulary.tokens.size(), 1);
  vocabulary.token_types.back() = 3;
  vocabulary.eos = static_cast<int32_t>(vocabulary.tokens.size()) - 1;
  return tokenizer_from_gguf(vocabulary, "test");
}
// Teacher: a b c ab abc <|end|>; student: a b c bc <|end|>.
const auto kTeacher = bpe({"a", "b", "c", "ab", "abc"}, {"a b", "ab c"});
const auto kStudent = bpe({"a", "b", "c", "bc"}, {"b c"});

SparseRow row_of(std::vector<int32_t> ids, std::vector<float> p) {
  SparseRow row;
  row.head = ids.size();
  row.ids = std::move(ids), row.p = std::move(p);
  return row;
}

TEST(ByteBridge, EqualTokenizersChangeNothing) {
  const ByteBridge bridge(*kTeacher, *kTeacher);
  const auto carried = bridge.carry(row_of({0, 1, 3, 4, 5}, {0.1f, 0.2f, 0.3f, 0.25f, 0.15f}), "");
  EXPECT_EQ(carried.row.ids, (std::vector<int32_t>{0, 1, 3, 4, 5}));
  const std::vector<float> expected = {0.1f, 0.2f, 0.3f, 0.25f, 0.15f};
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(carried.row.p[i], expected[i], 1e-7);
  EXPECT_NEAR(carried.covered, 1, 1e-7);
}

// a, ab and abc all begin with the student's a; b meets b; the ends of text meet.
TEST(ByteBridge, MassGoesToTheTokenThatBeginsTheBytes) {
  const ByteBridge bridge(*kTeacher, *kStudent);
  const auto carried = bridge.carry(row_of({0, 1, 3, 4, 5}, {0.1f, 0.2f, 0.3f, 0.25f, 0.15f}), "");
  EXPECT_EQ(carried.row.ids, (std::vector<int32_t>{0, 1, 4}));
  EXPECT_NEAR(carried.row.p[0], 0.65, 1e-6);
  EXPECT_NEAR(carried.row.p[1], 0.2, 1e-6);
  EXPECT_NEAR(carried.row.p[2], 0.15, 1e-6);
}

// The text is abc, one teacher token; after its a, only ab and abc were possible: b (0.3) and bc (0.25)
// remain.
TEST(ByteBridge, InsideATeacherTokenItsOwnRowIsConditioned) {
  const ByteBridge bridge(*kTeacher, *kStudent);
  const auto carried = bridge.carry(row_of({0, 1, 3, 4, 5}, {0.1f, 0.2f, 0.3f, 0.25f, 0.15f}), "a");
  EXPECT_EQ(carried.row.ids, (std::vector<int32_t>{1, 3}));
  EXPECT_NEAR(carried.possible, 0.55, 1e-6);
  EXPECT_NEAR(carried.covered, 1, 1e-6);  // of what is possible
  EXPECT_NEAR(carried.row.p[0], 0.3 / 0.55, 1e-6);
  EXPECT_NEAR(carried.row.p[1], 0.25 / 0.55, 1e-6);
}

TEST(ByteBridge, UncoveredMassIsReported) {
  const auto poor = bpe({"a", "c"}, {});
  const ByteBridge bridge(*kTeacher, *poor);
  const auto carried = bridge.carry(row_of({0, 1, 2}, {0.5f, 0.3f, 0.2f}), "");
  EXPECT_NEAR(carried.covered, 0.7, 1e-6);
  EXPECT_NEAR(carried.row.rest, 0.3, 1e-6);
}

TEST(ByteBridge, PlacesNameTheLastBoundaryAndTheBytesSince) {
  // Text "abc" + end after the prompt "c": teacher [c | abc, end], student [c | a, bc, end].
  Sample teacher{{2, 4, 5}, {0, 1, 1}, ""}, student{{2, 0, 3, 4}, {0, 1, 1, 1}, ""};
  int64_t lost = 0;
  const auto places = bridge_places(student, *kStudent, teacher, *kTeacher, &lost);
  ASSERT_EQ(places.size(), 3u);
  EXPECT_EQ(lost, 0);
  const auto theirs = contexts(teacher.tokens), ours = contexts(student.tokens);
  EXPECT_EQ(places[0].first, ours[0]);
  EXPECT_EQ(places[0].second.context, theirs[0]);
  EXPECT_EQ(places[0].second.prefix, "");
  EXPECT_EQ(places[1].second.context, theirs[0]);
  EXPECT_EQ(places[1].second.prefix, "a");
  EXPECT_EQ(places[2].second.context, theirs[1]);  // both predict the end
  EXPECT_EQ(places[2].second.prefix, "");
  Sample other{{2, 1, 5}, {0, 1, 1}, ""};
  EXPECT_TRUE(bridge_places(student, *kStudent, other, *kTeacher, &lost).empty());
  EXPECT_EQ(lost, 3);
}

}  // namespace
}  // namespace retort
