// Stores that are built piece by piece on several threads: the samples are those that the rules give one
// after another in memory.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"
#include "data/check_samples.h"
#include "data/overlap.h"
#include "data/temporary_folder.h"
#include "data/token_store.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

const ChatTemplate& chatml() { return *find_chat_template("chatml"); }

// Several sources: weights on both sides of one, a limit, texts that are split, equal records, rejected
// answers, groups, a bound side.
struct Mixed {
  explicit Mixed(const std::string& length) {
    std::string lines, texts, table = "question,answer,topic\n", answers;
    for (int i = 0; i < 900; ++i)
      lines += fmt::format("{{\"prompt\":\"question {} {}\",\"completion\":\"answer {}\"}}\n", i % 800,
                           std::string(static_cast<size_t>(i % 23), 'x'), i % 800);
    for (int i = 0; i < 300; ++i)
      texts += fmt::format("line {} {}\n", i,
                           std::string(static_cast<size_t>(mix_bits(static_cast<uint64_t>(i)) % 200), 'y'));
    for (int i = 0; i < 700; ++i) table += fmt::format("\"what is, {}?\",it is {},topic {}\n", i, i, i % 60);
    for (int i = 0; i < 400; ++i)
      answers +=
          fmt::format("{{\"prompt\":\"sum {}\",\"completion\":\"the answer is {}\",\"right\":\"{}\"}}\n",
                      i / 4, i % 3, i % 2);
    spec.sources.resize(4);
    spec.sources[0].path = folder.write("lines.jsonl", lines);
    spec.sources[0].weight = 2.25;
    spec.sources[1].path = folder.write("texts.txt", texts);
    spec.sources[1].format = "lines";
    spec.sources[1].limit = 170;
    spec.sources[1].weight = 0.7;
    spec.sources[2].path = folder.write("table.csv", table);
    spec.sources[2].prompt = "{question}";
    spec.sources[2].completion = "{answer}";
    spec.sources[2].group = "{topic}";
    spec.sources[3].path = folder.write("answers.jsonl", answers);
    spec.sources[3].reject = RejectSpec{.unless_answer = "{right}", .answers_per_prompt = 1};
    spec.sources[3].use = "train";
    spec.held_out.fraction = 0.1;
    spec.sample_tokens = 90;
    spec.length = length;
    if (length == "split")
      spec.sources.erase(spec.sources.begin()), spec.sources.resize(1);  // for texts alone
  }
  TemporaryFolder folder;
  DataSpec spec;
};

// The rules of data_spec.h, one record after another with everything in memory.
struct Plainly {
  std::vector<Sample> train, held_out;
  std::vector<std::string> places;

  Plainly(const DataSpec& spec, const Tokenizer& tokenizer) {
    const auto number = [](const Record& record, bool of_group) {
      Sha256 hash;
      if (of_group && !record.group.empty()) hash.add("group:" + record.group);
      else {
        for (const auto& message : record.messages)
          hash.add(fmt::format("{}:{}{}:{}", message.role.size(), message.role, message.content.size(),
                               message.content));
        hash.add(fmt::format("{}:{}", record.text.size(), record.text));
      }
      return std::stoull(hash.hex().substr(0, 16), nullptr, 16);
    };
    const Draws limits(7, "limit"), sides(7, "held_out"), weights(7, "weight");
    for (size_t s = 0; s < spec.sources.size(); ++s) {
      const auto& source = spec.sources[s];
      auto records = read_records(source, static_cast<int32_t>(s));
      if (source.limit > 0) {
        std::vector<uint64_t> order;
        for (const auto& record : records) order.push_back(limits.bits(number(record, false)));
        auto sorted = order;
        std::sort(sorted.begin(), sorted.end());
        std::vector<Record> kept;
        for (size_t i = 0; i < records.size(); ++i)
          if (order[i] < sorted[static_cast<size_t>(source.limit)]) kept.push_back(records[i]);
        records = kept;
      }
      for (const auto& record : records) {
        const bool held =
            source.use == "both" && sides.uniform(number(record, true)) < spec.held_out.fraction;
        const auto whole = std::floor(source.weight);
        const auto copies =
            held ? 1
                 : static_cast<int>(whole) +
                       (weights.uniform(number(record, false)) < source.weight - whole ? 1 : 0);
        if (copies == 0) continue;
        const auto sample = make_sample(spec, record, tokenizer, chatml());
        std::vector<Sample> made;
        if (sample.tokens.size() <= static_cast<size_t>(spec.sample_tokens)) {
          made.push_back(sample);
        } else if (record.messages.empty() && spec.length != "skip") {
          for (size_t begin = 0; begin + 1 < sample.tokens.size();
               begin += static_cast<size_t>(spec.sample_tokens) - 1) {
            const auto end = std::min(begin + static_cast<size_t>(spec.sample_tokens), sample.tokens.size());
            Sample piece{{sample.tokens.begin() + static_cast<ptrdiff_t>(begin),
                          sample.tokens.begin() + static_cast<ptrdiff_t>(end)},
                         std::vector<float>(end - begin, 1),
                         ""};
            piece.weights[0] = 0;
            piece.id =
                spec.length == "cut" ? record.place : fmt::format("{}#{}", record.place, made.size() + 1);
            made.push_back(piece);
            if (spec.length == "cut") break;
          }
        }
        for (const auto& one : made) {
          for (int copy = 0; copy < copies; ++copy) (held ? held_out : train).push_back(one);
          if (held) places.push_back(record.place);
        }
      }
    }
  }
};

void expect_equal(const Samples& found, const std::vector<Sample>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto sample = found[i];
    ASSERT_EQ(sample.tokens, expected[i].tokens) << i;
    ASSERT_EQ(sample.weights, expected[i].weights) << i;
    ASSERT_EQ(sample.id, expected[i].id) << i;
  }
}

TEST(Streaming, TheStoreIsThatOfTheRulesWhateverTheNumberOfThreads) {
  const auto tokenizer = chat_tokenizer();
  for (const auto* length : {"skip", "cut", "split"}) {
    Mixed mixed(length);
    auto spec = mixed.spec;
    const Plainly expected(spec, tokenizer);
    std::set<std::string> hashes;
    for (const int64_t threads : {1, 2, 4}) {
      spec.cache = mixed.folder / fmt::format("{}-{}.h5", length, threads);
      bool cached = true;
      const auto built = load_dataset(spec, tokenizer, chatml(), &cached, threads);
      EXPECT_FALSE(cached);
      hashes.insert(sha256_file(spec.cache));
      const auto read = load_dataset(spec, tokenizer, chatml(), &cached, threads);
      EXPECT_TRUE(cached);
      for (const auto* data : {&built, &read}) {
        expect_equal(data->train, expected.train);
        expect_equal(data->held_out, expected.held_out);
        ASSERT_EQ(data->held_out_records.size(), expected.places.size());
        for (size_t i = 0; i < expected.places.size(); ++i)
          EXPECT_EQ(data->held_out_records[i].place, expected.places[i]);
      }
      EXPECT_EQ(read.counts.records, built.counts.records);
      EXPECT_EQ(read.counts.duplicates, built.counts.duplicates);
    }
    EXPECT_EQ(hashes.size(), 1u) << length;
    spec.cache.clear();
    const auto packed = build_dataset(spec, tokenizer, chatml(), 3);
    expect_equal(packed.train, expected.train);
    expect_equal(packed.held_out, expected.held_out);
  }
}

TEST(Streaming, CountsByHand) {
  TemporaryFolder folder;
  const auto tokenizer = chat_tokenizer();
  DataSpec spec;
  spec.sources.resize(1);
  std::string lines;
  for (int i = 0; i < 300; ++i)
    lines += fmt::format("{{\"prompt\":\"q{}\",\"completion\":\"{}\"}}\n", i % 250,
                         i % 250 == 0 ? std::string(200, 'a') : "b");
  spec.sources[0].path = folder.write("x.jsonl", lines);
  spec.sources[0].weight = 2;
  spec.held_out.fraction = 0;
  spec.sample_tokens = 64;
  spec.length = "skip";
  spec.cache = folder / "t.h5";
  const auto data = load_dataset(spec, tokenizer, chatml(), nullptr, 2);
  EXPECT_EQ(data.counts.records, 300);
  EXPECT_EQ(data.counts.duplicates, 50);
  EXPECT_EQ(data.counts.repeats, 300);
  EXPECT_EQ(data.counts.skipped_long, 2);  // q0 stands twice, and its answer is too long to be cut
  EXPECT_EQ(data.train.size(), 596u);
}

// However many records there are, those of some batches are in memory.
TEST(Streaming, FewRecordsAreHeldAtATime) {
  TemporaryFolder folder;
  std::string lines;
  constexpr int kRecords = 30000;
  for (int i = 0; i < kRecords; ++i) lines += fmt::format("{{\"text\":\"record {}\"}}\n", i);
  std::vector<SourceSpec> sources(1);
  sources[0].path = folder.write("x.jsonl", lines);
  for (const int64_t threads : {1, 2, 4}) {
    std::atomic<int64_t> held = 0, most = 0;
    int64_t taken = 0;
    SourceFiles(sources, threads).pass(nullptr, [&](int64_t row, Record record) -> RecordSource::Later {
      const int64_t now = ++held;
      for (int64_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {}
      return [&, row, text = std::move(record.text)] {
        ASSERT_EQ(row, taken++);
        ASSERT_EQ(text, fmt::format("record {}", row));
        --held;
      };
    });
    EXPECT_EQ(taken, kRecords);
    EXPECT_LE(most, 4 * threads * 128);  // batches under way, and the records of each
  }
}

TEST(Streaming, TheFirstBadRecordIsNamedByAnyNumberOfThreads) {
  TemporaryFolder folder;
  const auto tokenizer = chat_tokenizer();
  std::string lines;
  for (int i = 1; i <= 5000; ++i)
    lines += i == 701 || i == 3000 ? "{\"text\": 3}\n"
             : i == 4500           ? std::string(17 << 20, 'z') + "\n"
                                   : "{\"text\":\"fine\"}\n";
  DataSpec spec;
  spec.sources.resize(1);
  spec.sources[0].path = folder.write("x.jsonl", lines);
  const auto message = [&](int64_t threads) -> std::string {
    try {
      build_dataset(spec, tokenizer, chatml(), threads);
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  EXPECT_NE(message(1).find("x.jsonl:701: text: expected a string"), std::string::npos) << message(1);
  for (const int64_t threads : {2, 4}) EXPECT_EQ(message(threads), message(1));
  spec.sources[0].path =
      folder.write("x.jsonl", lines.substr(0, lines.find('3')) + "\"fine\"}\n" + std::string(17 << 20, 'z'));
  EXPECT_NE(message(4).find("line of "), std::string::npos);
  spec.sources[0].path =
      folder.write("x.jsonl", "{\"text\": 3}\n" + std::string(17 << 20, 'z'));  // both in one batch
  for (const int64_t threads : {1, 4})
    EXPECT_NE(message(threads).find("x.jsonl:1: text: expected a string"), std::string::npos)
        << message(threads);
}

TEST(Streaming, OverlapIsThatOfTheListInMemory) {
  TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 600; ++i) {
    std::string text;
    for (int w = 0; w < 18; ++w)
      text += fmt::format("w{} ", mix_bits(static_cast<uint64_t>((i % 450) * 100 + w)) % 100000);
    lines += fmt::format("{{\"text\":\"{}{}\"}}\n", text, i >= 500 ? std::to_string(i) : "");
  }
  DataSpec spec;
  spec.sources.resize(1);
  spec.sources[0].path = folder.write("x.jsonl", lines);
  spec.held_out.fraction = 0.2;
  const auto records = read_records(spec);
  const auto listed = find_overlap(records, held_out_records(spec, records));
  EXPECT_GT(listed.ngram, 0);
  for (const int64_t threads : {1, 4}) {
    const SourceFiles files(spec.sources, threads);
    const auto streamed = find_overlap(files, plan_records(spec, files));
    EXPECT_EQ(streamed.held_out, listed.held_out);
    EXPECT_EQ(streamed.exact, listed.exact);
    EXPECT_EQ(streamed.ngram, listed.ngram);
    EXPECT_EQ(streamed.places, listed.places);
  }
}

// Kills its process after so many texts.
class Killing : public ByteTokenizer {
 public:
  Killing() : ByteTokenizer({"<|im_start|>", "<|im_end|>"}) { eos = 257; }
  std::vector<int32_t> encode(std::string_view text, Specials specials) const override {
    if (++encoded_ == 1500) ::raise(SIGKILL);
    return ByteTokenizer::encode(text, specials);
  }

 private:
  mutable std::atomic<int> encoded_ = 0;
};

TEST(Streaming, AKilledBuildLeavesNothingUnderTheNameAndTheNextOneWorks) {
  Mixed mixed("cut");
  auto spec = mixed.spec;
  std::filesystem::create_directory(mixed.folder / "store");
  spec.cache = mixed.folder / "store/t.h5";
  const pid_t process = ::fork();
  if (process == 0) {
    try {
      load_dataset(spec, Killing(), chatml(), nullptr, 2);
    } catch (...) {}
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(process, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_FALSE(std::filesystem::exists(spec.cache));
  EXPECT_FALSE(std::filesystem::is_empty(mixed.folder / "store"));  // what it was writing
  const auto tokenizer = chat_tokenizer();
  const auto data = load_dataset(spec, tokenizer, chatml(), nullptr, 2);
  expect_equal(data.train, Plainly(spec, tokenizer).train);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(mixed.folder / "store"))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 1u);
}

TEST(Streaming, AFailedBuildLeavesNothing) {
  Mixed mixed("error");  // some texts are too long
  auto spec = mixed.spec;
  std::filesystem::create_directory(mixed.folder / "store");
  spec.cache = mixed.folder / "store/t.h5";
  EXPECT_THROW(load_dataset(spec, chat_tokenizer(), chatml()), RecipeError);
  EXPECT_TRUE(std::filesystem::is_empty(mixed.folder / "store"));
}

}  // namespace
}  // namespace retort
