#include "base/json_fields.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace retort {
namespace {

struct Part {
  std::string name;
  uint64_t bytes = 0;
  template <class Visitor> void fields(Visitor& field) { field("name", name), field("bytes", bytes); }
  bool operator==(const Part&) const = default;
};

struct Kept {
  int64_t steps = 0;
  bool stopped = false;
  double loss = 0;
  std::optional<double> before;
  std::optional<Part> part;
  std::vector<Part> parts;
  std::vector<std::pair<std::string, double>> metrics;
  std::map<std::string, int64_t> counts;
  std::set<std::string> read;
  double seconds = 0;
  Json values;
  template <class Visitor> void fields(Visitor& field) {
    field("steps", steps);
    field("stopped", stopped);
    field("loss", loss);
    field("before", before);
    field.rare("part", part);
    field("parts", parts);
    field("metrics", metrics);
    field("counts", counts);
    field("read", read);
    field.rare("seconds", seconds);
    field("values", values);
  }
};

const char* const kText =
    R"({"before":null,"counts":{"a":1},"loss":null,"metrics":[["kl",0.5]],"parts":[{"bytes":7,"name":"p"}],)"
    R"("read":["x","y"],"steps":-3,"stopped":true,"values":[1]})";

TEST(JsonFields, OneListWritesAndReads) {
  Kept kept;
  kept.steps = -3, kept.stopped = true, kept.loss = std::nan(""), kept.parts = {{"p", 7}};
  kept.metrics = {{"kl", 0.5}}, kept.counts = {{"a", 1}}, kept.read = {"y", "x"};
  kept.values = Json::array({1});
  EXPECT_EQ(json_of(kept).dump(), kText);  // what is rare and not there is left out
  const auto again = read_as<Kept>(Json::parse(kText), {"f.json"});
  EXPECT_TRUE(std::isnan(again.loss));
  EXPECT_EQ(again.parts, kept.parts);
  EXPECT_EQ(json_of(again).dump(), kText);
  kept.part = Part{"q", 1}, kept.seconds = 2;
  const auto more = read_as<Kept>(json_of(kept), {"f.json"});
  EXPECT_EQ(more.part, kept.part);
  EXPECT_EQ(more.seconds, 2);
  // The order of the fields where the file is to have it.
  EXPECT_EQ(json_as<OrderedJson>(Part{"q", 1}).dump(), R"({"name":"q","bytes":1})");
}

std::string refusal(const std::string& key, const Json& value) {
  auto json = Json::parse(kText);
  if (value.is_discarded()) json.erase(key);
  else json[key] = value;
  try {
    read_as<Kept>(json, {"run/stages.json", "stages.train", "move it away"});
  } catch (const FormatError& error) { return error.what(); }
  return "";
}

TEST(JsonFields, AValueOfAnotherKindIsALineWithFileAndField) {
  const std::string where = "run/stages.json: stages.train.";
  EXPECT_EQ(refusal("steps", 1.5), where + "steps: expected a whole number, found 1.5; move it away");
  EXPECT_EQ(refusal("steps", "1"), where + "steps: expected a whole number, found \"1\"; move it away");
  EXPECT_EQ(refusal("steps", uint64_t{1} << 63),
            where + "steps: expected a whole number, found 9223372036854775808; move it away");
  EXPECT_EQ(refusal("stopped", 0), where + "stopped: expected true or false, found 0; move it away");
  EXPECT_EQ(refusal("loss", "x"), where + "loss: expected a number, found \"x\"; move it away");
  EXPECT_EQ(refusal("before", "x"), where + "before: expected a number, found \"x\"; move it away");
  EXPECT_EQ(refusal("read", 1), where + "read: expected a list, found 1; move it away");
  EXPECT_EQ(refusal("read", {1}), where + "read[0]: expected a text, found 1; move it away");
  EXPECT_EQ(refusal("parts", Json::array({Json{{"name", "p"}}})),
            where + "parts[0].bytes: is missing; move it away");
  EXPECT_EQ(refusal("parts", Json::array({Json{{"name", "p"}, {"bytes", -1}}})),
            where + "parts[0].bytes: expected a whole number that is not negative, found -1; move it away");
  EXPECT_EQ(refusal("part", Json::array()), where + "part: expected an object, found []; move it away");
  EXPECT_EQ(refusal("metrics", Json::array({Json::array({"kl"})})),
            where + "metrics[0]: expected a list of two, found [\"kl\"]; move it away");
  EXPECT_EQ(refusal("counts", Json::array()), where + "counts: expected an object, found []; move it away");
  EXPECT_EQ(refusal("values", Json(Json::value_t::discarded)), where + "values: is missing; move it away");
  EXPECT_EQ(refusal("steps", std::string(100, 'a')).size(),
            (where + "steps: expected a whole number, found ...; move it away").size() + 40);
}

}  // namespace
}  // namespace retort
