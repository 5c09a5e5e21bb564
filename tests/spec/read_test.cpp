#include <gtest/gtest.h>

#include "base/error.h"
#include "fuzz/damage.h"
#include "recipe/recipe.h"
#include "spec/print.h"
#include "spec/read.h"

namespace retort {

namespace {

struct Inner {
  double rate = 0.5;
  std::vector<double> betas = {0.9, 0.999};
  template <class Visitor> void fields(Visitor& field) {
    field("rate", rate, above(0), "how fast");
    field("betas", betas, between(0, 1), "decays");
  }
};

struct Item {
  std::string path;
  bool keep = false;
  template <class Visitor> void fields(Visitor& field) {
    field("path", path, required(not_empty()), "where");
    field("keep", keep, any(), "whether");
  }
};

struct Outer {
  int64_t rank = 16;
  std::string kind = "lora";
  std::vector<std::string> targets = {"all"};
  std::optional<int64_t> window;
  Inner inner;
  std::optional<Inner> other;
  std::vector<Item> items;
  template <class Visitor> void fields(Visitor& field) {
    field("rank", rank, between(1, 1024), "columns");
    field("kind", kind, one_of({"lora", "dora"}), "which");
    field("targets", targets, not_empty(), "names");
    field("window", window, at_least(1), "tokens");
    field.section("inner", inner, "a section");
    field.section("other", other, "an optional section");
    field.list("items", items, "a list");
  }
};

Outer read(std::string_view text, const std::vector<std::string>& overrides = {}) {
  std::vector<Problem> problems;
  auto root = parse_yaml(text, "a.yaml", problems);
  for (const auto& assignment : overrides) override_yaml(root, assignment, problems);
  Outer outer;
  SpecReader reader(root, {"rank", "inner.rate", "items[].keep"}, problems);
  outer.fields(reader);
  reader.finish();
  throw_if_any(problems);
  return outer;
}

std::string error_of(std::string_view text, const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const RecipeError& error) { return error.what(); }
  return "accepted";
}

constexpr const char* kOne = "\n1 problem; nothing was loaded or written.";

}  // namespace

TEST(ReadSpec, FillsEveryKindOfField) {
  const auto outer = read(
      "rank: 8\nkind: dora\ntargets: [q_proj, 'v_proj']\nwindow: 512\ninner: {rate: 2.0e-4, betas: [0, "
      "1]}\nother:\n  rate: 3\nitems:\n  - path: a\n    keep: true\n  - {path: \"b\"}\n");
  EXPECT_EQ(outer.rank, 8);
  EXPECT_EQ(outer.kind, "dora");
  EXPECT_EQ(outer.targets, (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_EQ(outer.window, 512);
  EXPECT_EQ(outer.inner.rate, 2.0e-4);
  EXPECT_EQ(outer.inner.betas, (std::vector<double>{0, 1}));
  ASSERT_TRUE(outer.other);
  EXPECT_EQ(outer.other->rate, 3);
  EXPECT_EQ(outer.other->betas[1], 0.999);
  ASSERT_EQ(outer.items.size(), 2u);
  EXPECT_TRUE(outer.items[0].keep);
  EXPECT_EQ(outer.items[1].path, "b");
}

struct Switches {
  NamedValues switches;
  template <class Visitor> void fields(Visitor& field) { field("switches", switches, any(), "switches"); }
};

// Values are JSON, as who takes them wants them; a text stays one in quotes.
TEST(ReadSpec, NamesWithValues) {
  const auto read_switches = [](std::string_view text) {
    std::vector<Problem> problems;
    const auto root = parse_yaml(text, "r.yaml", problems);
    SpecReader reader(root, {}, problems);
    Switches spec;
    spec.fields(reader);
    reader.finish();
    throw_if_any(problems);
    return spec;
  };
  const std::vector<std::pair<std::string, std::string>> wanted = {
      {"a", "false"}, {"b", "1.5"}, {"c", "\"x \\\"y\\\"\""}, {"d", "\"true\""}, {"e", "null"}, {"f", "12"}};
  const auto spec = read_switches("switches: {a: false, b: 1.5, c: 'x \"y\"', d: 'true', e: null, f: 12}");
  EXPECT_EQ(spec.switches.entries, wanted);
  EXPECT_EQ(read_switches(print_spec(spec)).switches.entries, wanted);
  EXPECT_TRUE(read_switches("switches: {}").switches.entries.empty());
  for (const char* wrong : {"switches: [a]", "switches: a", "switches: {a: [1]}", "switches: {a: {b: 1}}"})
    EXPECT_THROW(read_switches(wrong), RecipeError) << wrong;
}

TEST(ReadSpec, OptionalSectionIsAbsentUnlessWritten) {
  EXPECT_FALSE(read("rank: 8").other);
  EXPECT_FALSE(read("other: null").other);
  EXPECT_FALSE(read("other: {rate: 1}", {"other=null"}).other);
}

TEST(ReadSpec, NamesPlaceKeyExpectedAndFound) {
  EXPECT_EQ(error_of("kind: lora\nrank: sixteen\n"),
            std::string("a.yaml:2:7: rank: expected a whole number from 1 to 1024, found 'sixteen'") + kOne);
  EXPECT_EQ(error_of("rank: 0"),
            std::string("a.yaml:1:7: rank: expected a whole number from 1 to 1024, found '0'") + kOne);
  EXPECT_EQ(
      error_of("kind: lroa"),
      std::string("a.yaml:1:7: kind: expected one of lora, dora, found 'lroa'; did you mean 'lora'?") + kOne);
  EXPECT_NE(error_of("kind: DORA").find("; did you mean 'dora'?"), std::string::npos);
  EXPECT_EQ(error_of("inner: {rate: 0}"),
            std::string("a.yaml:1:15: inner.rate: expected a number above 0, found '0'") + kOne);
  EXPECT_EQ(error_of("inner: 7"),
            std::string("a.yaml:1:8: inner: expected keys and values, found '7'") + kOne);
  EXPECT_EQ(error_of("targets: q_proj"),
            std::string(
                "a.yaml:1:10: targets: expected a list of texts, not empty, found 'q_proj'; write [q_proj]") +
                kOne);
  EXPECT_EQ(
      error_of("targets: []"),
      std::string("a.yaml:1:10: targets: expected a list of texts, not empty, found a list of 0") + kOne);
  EXPECT_EQ(error_of("inner: {betas: [0.5, 2]}"),
            std::string("a.yaml:1:22: inner.betas[1]: expected a number from 0 to 1, found '2'") + kOne);
  EXPECT_EQ(error_of("items: [{keep: true}]"),
            std::string("a.yaml:1:9: items[0].path: missing; expected text, not empty: where") + kOne);
  EXPECT_EQ(
      error_of("items: {path: a}"),
      std::string("a.yaml:1:8: items: expected a list of sections, found one section; put '- ' before it") +
          kOne);
}

TEST(ReadSpec, TabsAndOpenBracketsAreNamed) {
  EXPECT_EQ(error_of("inner:\n\trate: 1\n"),
            "a.yaml:2:1: a tab before the key; YAML indents with spaces: replace it by two");
  const std::string open = "a `{` is not closed (opened on line ";
  const std::string what =
      "), or a value with `{`, `}` or `,` stands without quotes; close it or put the value in quotes";
  EXPECT_NE(error_of("other: {rate: ${HOME}/x}").find(open + "1" + what), std::string::npos);
  EXPECT_NE(error_of("rank: 8\ninner: {rate: 1\n").find(open + "2" + what), std::string::npos);
  const auto list = error_of("rank: 8  # {\nkind: \"{\"\ntargets: [a\n");
  EXPECT_NE(list.find("a `[` is not closed (opened on line 3)"), std::string::npos) << list;
}

TEST(ReadSpec, UnknownKeysGetASuggestion) {
  EXPECT_EQ(error_of("rnak: 8"), std::string("a.yaml:1:1: rnak: unknown key; did you mean 'rank'?") + kOne);
  EXPECT_EQ(error_of("ranks: 8"), std::string("a.yaml:1:1: ranks: unknown key; did you mean 'rank'?") + kOne);
  EXPECT_EQ(error_of("inner:\n  rat: 1\n"),
            std::string("a.yaml:2:3: inner.rat: unknown key; did you mean 'rate'?") + kOne);
  EXPECT_EQ(error_of("colour: 8"),
            std::string("a.yaml:1:1: colour: unknown key; `retort explain` lists all keys") + kOne);
  EXPECT_EQ(
      error_of("inner: {colour: 8}"),
      std::string("a.yaml:1:9: inner.colour: unknown key; `retort explain inner` lists its keys") + kOne);
  EXPECT_EQ(error_of("rate: 1"),
            std::string("a.yaml:1:1: rate: unknown key; did you mean 'inner.rate'?") + kOne);
  EXPECT_EQ(error_of("items: [{path: a, kep: true}]"),
            std::string("a.yaml:1:19: items[0].kep: unknown key; did you mean 'keep'?") + kOne);
}

TEST(ReadSpec, ReportsAllProblemsInTheOrderOfTheFile) {
  EXPECT_EQ(error_of("inner: {rtae: 1, rate: x}\nrank: 2.5\nkind: no\n"),
            "a.yaml:1:9: inner.rtae: unknown key; did you mean 'rate'?\n"
            "a.yaml:1:24: inner.rate: expected a number above 0, found 'x'\n"
            "a.yaml:2:7: rank: expected a whole number from 1 to 1024, found '2.5'\n"
            "a.yaml:3:7: kind: expected one of lora, dora, found 'no'\n"
            "4 problems; nothing was loaded or written.");
}

// YAML 1.1 reads 010 as 8, yes as true, 1_000 as 1000, 1:30 as 90 and .inf as infinity.
TEST(ReadSpec, ScalarsHaveOneReading) {
  EXPECT_EQ(
      error_of("rank: 010"),
      std::string(
          "a.yaml:1:7: rank: expected a whole number from 1 to 1024, found '010'; remove the leading zero") +
          kOne);
  EXPECT_EQ(error_of("rank: '8'"), std::string("a.yaml:1:7: rank: expected a whole number from 1 to 1024, "
                                               "found the text \"8\"; remove the quotes") +
                                       kOne);
  EXPECT_EQ(
      error_of("items: [{path: a, keep: yes}]"),
      std::string("a.yaml:1:25: items[0].keep: expected true or false, found 'yes'; write true") + kOne);
  EXPECT_EQ(
      error_of("items: [{path: a, keep: Off}]"),
      std::string("a.yaml:1:25: items[0].keep: expected true or false, found 'Off'; write false") + kOne);
  EXPECT_EQ(error_of("items: [{path: no}]"),
            std::string("a.yaml:1:16: items[0].path: expected text, not empty, found 'no'; put it in quotes "
                        "if the word is meant") +
                kOne);
  for (const char* number :
       {"0x10", "1_000", "1:30", ".inf", ".nan", "inf", "nan", "1e400", "0o17", "+8", "8 ", "1e", "--1"}) {
    if (std::string(number) == "8 ") continue;
    EXPECT_NE(error_of(std::string("inner: {rate: ") + number + "}"), "accepted") << number;
    EXPECT_NE(error_of(std::string("rank: ") + number), "accepted") << number;
  }
  EXPECT_NE(error_of("rank: 99999999999999999999").find("does not fit 64 bits"), std::string::npos);
  EXPECT_NE(error_of("rank: 1e2"), "accepted");
  EXPECT_EQ(read("inner: {rate: 1e-3}").inner.rate, 1e-3);
  EXPECT_EQ(read("items: [{path: '${HOME}/x'}]").items[0].path, "${HOME}/x");
}

// Where a share is expected (0 to 1), and nowhere else.
TEST(ReadSpec, AShareMayBeWrittenInPerCent) {
  EXPECT_EQ(read("inner: {betas: [3%, 99.5 %]}").inner.betas, (std::vector<double>{0.03, 0.995}));
  EXPECT_EQ(read("rank: 8", {"inner.betas=[7%, 1]"}).inner.betas[0], 0.07);
  EXPECT_EQ(read("inner: {betas: [0.7%, .5%]}").inner.betas, (std::vector<double>{0.007, 0.005}));
  EXPECT_EQ(error_of("inner: {betas: [101%]}"),
            std::string("a.yaml:1:17: inner.betas[0]: expected a number from 0 to 1, found '101%'") + kOne);
  EXPECT_EQ(error_of("inner: {rate: 3%}"),
            std::string("a.yaml:1:15: inner.rate: expected a number above 0, found '3%'; write it without "
                        "%") +
                kOne);
  for (const char* wrong : {"%", "3%%", "3  %", "%3", "3%x"})
    EXPECT_NE(error_of(fmt::format("inner: {{betas: [{}]}}", wrong)), "accepted") << wrong;
}

TEST(ReadSpec, RefusesWhatYamlCanHide) {
  EXPECT_EQ(error_of("rank: 8\nrank: 9\n"),
            std::string("a.yaml:2:1: rank: key given twice; first on line 1") + kOne);
  EXPECT_EQ(error_of("rank: &a 8"),
            "a.yaml:1:7: anchors (&name) are not allowed in a recipe; write the value out");
  EXPECT_NE(error_of("items: &a [*a]").find("anchors"), std::string::npos);
  EXPECT_NE(error_of("rank: *a").find("a.yaml:1:"), std::string::npos);
  EXPECT_EQ(error_of("rank: !!int 8"),
            "a.yaml:1:7: tags ('tag:yaml.org,2002:int') are not allowed in a recipe");
  EXPECT_NE(error_of("inner: !<x> {}").find("tags"), std::string::npos);
  EXPECT_EQ(error_of("inner: {<<: {rate: 1}}"),
            "a.yaml:1:9: merge keys (<<) are not allowed in a recipe; write the values out");
  EXPECT_EQ(error_of("rank: 8\n---\nrank: 9\n"),
            "a.yaml:3:1: a second document (---) starts here; a recipe is one document");
  EXPECT_EQ(error_of(""), "a.yaml:1:1: the recipe is empty; `retort explain` lists what can be written");
  EXPECT_EQ(error_of("? [a]\n: 1\n"), "a.yaml:1:3: a key must be a word, found a list or a map");
  EXPECT_EQ(error_of("rank: 8\xff"), "a.yaml:1:8: byte 0xff is not UTF-8; save the recipe as UTF-8");
  EXPECT_EQ(error_of(std::string_view("rank: 8\0", 8)), "a.yaml:1:8: control byte 0x00 in the recipe");
  EXPECT_EQ(error_of("- 1"), std::string("a.yaml:1:1: expected keys and values, found a list of 1") + kOne);
  EXPECT_NE(error_of("rank: [8").find("a.yaml:"), std::string::npos);
  EXPECT_NE(error_of(std::string(2 << 20, '#')).find("too long"), std::string::npos);
}

// "Laughs": ten levels of ten aliases each; refused at the first anchor. Deep nesting is refused before it
// can fill the stack.
TEST(ReadSpec, HostileNestingEndsAtOnce) {
  std::string laughs = "a0: &a0 [x]\n";
  for (int i = 1; i < 10; ++i) {
    laughs += fmt::format("a{}: &a{} [", i, i);
    for (int k = 0; k < 10; ++k) laughs += fmt::format("*a{},", i - 1);
    laughs += "]\n";
  }
  EXPECT_NE(error_of(laughs).find("a.yaml:1:5: anchors"), std::string::npos);
  EXPECT_NE(error_of("rank: " + std::string(100000, '[')).find("a.yaml:1:"), std::string::npos);
  EXPECT_NE(error_of("rank: " + std::string(100000, '{')).find("a.yaml:1:"), std::string::npos);
  std::string blocks;
  for (int i = 0; i < 700; ++i) blocks += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_NE(error_of(blocks).find("deeper than 32"), std::string::npos);
}

TEST(Override, SetsScalarsListsAndSections) {
  const std::string base = "rank: 8\nitems:\n  - path: a\n";
  EXPECT_EQ(read(base, {"rank=4"}).rank, 4);
  EXPECT_EQ(read(base, {"inner.rate=1e-3"}).inner.rate, 1e-3);
  EXPECT_EQ(read(base, {"targets=[q, v]"}).targets, (std::vector<std::string>{"q", "v"}));
  EXPECT_EQ(read(base, {"items.0.path=b: #c"}).items[0].path, "b: #c");
  EXPECT_EQ(read(base, {"items[0].keep=true"}).items[0].keep, true);
  EXPECT_EQ(read(base, {"items.1.path=z"}).items[1].path, "z");
  EXPECT_EQ(read(base, {"rank=4", "rank=5"}).rank, 5);
  EXPECT_TRUE(read(base, {"other.rate=2"}).other);
}

// train.optimizer={kind: lion} says nothing of the rate that the recipe has.
TEST(Override, KeysInBracesAreSetBesideTheOthers) {
  const std::string base = "rank: 8\ninner: {rate: 3, betas: [0.5]}\n";
  const auto both = read(base, {"inner={rate: 4}"});
  EXPECT_EQ(both.inner.rate, 4);
  EXPECT_EQ(both.inner.betas, std::vector<double>{0.5});
  EXPECT_EQ(read(base, {"inner={betas: [0.1, 0.2]}"}).inner.betas, (std::vector<double>{0.1, 0.2}));
  EXPECT_EQ(read(base, {"inner={}"}).inner.rate, 0.5) << "as it is without a word";
  EXPECT_EQ(read(base, {"other={rate: 2}"}).other->rate, 2);
  EXPECT_EQ(error_of(base, {"inner={rte: 4}"}),
            std::string("command line: inner={rte: 4}: inner.rte: unknown key; did you mean 'rate'?") + kOne);
  EXPECT_EQ(error_of(base, {"inner={rate: 4, rate: 5}"}).find("command line: inner={rate: 4, rate: 5}: "),
            0u);
}

TEST(Override, ErrorsNameTheCommandLine) {
  EXPECT_EQ(error_of("rank: 8", {"rank=ten"}),
            std::string("command line: rank=ten: rank: expected a whole number from 1 to 1024, found 'ten'") +
                kOne);
  EXPECT_EQ(error_of("rank: 8", {"rnk=1"}),
            std::string("command line: rnk=1: rnk: unknown key; did you mean 'rank'?") + kOne);
  EXPECT_EQ(error_of("rank: 8", {"rank"}),
            "command line: rank: expected key.path=value, for example train.steps=100");
  EXPECT_EQ(error_of("rank: 8", {"rank.x=1"}),
            std::string("command line: rank.x=1: rank: has no keys inside; it is '8'") + kOne);
  EXPECT_EQ(error_of("items: [{path: a}]", {"items.5.path=b"}),
            std::string("command line: items.5.path=b: items: expected a list index from 0 to 1, found '5'") +
                kOne);
  EXPECT_NE(error_of("rank: 8", {"targets=[q"}).find("command line: targets=[q: "), std::string::npos);
}

// Seeded damage: a recipe is read or refused with the place of each problem, whatever happened to it.
TEST(ReadSpec, DamagedRecipesAreReadOrRefused) {
  const std::string whole =
      "# a recipe\nrank: 8\nkind: dora\ntargets: [q_proj, 'v_proj']\nwindow: 512\ninner: {rate: 2.0e-4, "
      "betas: [0, 1]}\nother:\n  rate: 3\nitems:\n  - path: a\n    keep: true\n  - {path: \"b\"}\n";
  int accepted = 0, refused = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    const auto message = error_of(damaged(whole, "recipe", i, "&*!|>{}[],:#?-'\"% \n\t0\xFF"));
    if (message == "accepted") {
      ++accepted;
    } else {
      ++refused;
      EXPECT_EQ(message.rfind("a.yaml:", 0), 0u) << message;
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace retort
