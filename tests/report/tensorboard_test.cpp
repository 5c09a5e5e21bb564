#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "report/tensorboard.h"
#include "where.h"  // tests

namespace retort {

namespace {

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

Json golden() {
  return read_json(std::filesystem::path(source_dir()) / "tests/golden/report/tensorboard.json");
}

}  // namespace

// RFC 3720, appendix B.4.
TEST(Crc32c, EqualsTheStandardsExamples) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
}

TEST(EventFile, RecordsEqualTensorBoardsOwn) {
  const Scalars scalars{{"loss", 1.25}, {"learning_rate", 2e-4}};
  EXPECT_EQ(hex(scalar_event(300, scalars, 1700000000.5)), golden()["scalar_event"].get<std::string>());
  EXPECT_EQ(hex(framed(scalar_event(300, scalars, 1700000000.5))),
            golden()["scalar_record"].get<std::string>());
}

// A version record, then (for a resumed run) the session start that lets TensorBoard drop later steps.
// Protobuf's own writer leaves out a step of 0; ours writes it, which reads the same.
TEST(EventFile, AResumedRunStartsASession) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("retort_events_{}", getpid());
  std::string written;
  {
    EventFile file(folder, 7, 1700000000.5);
    file.add(300, {{"loss", 1.25}, {"learning_rate", 2e-4}}, 1700000000.5);
    written = hex(read_text(file.path()));
    EventFile second(folder, 0, 1700000000.5);
    EXPECT_NE(second.path(), file.path());
  }
  std::filesystem::remove_all(folder);
  const auto expected = golden();
  const auto tail =
      expected["start_record"].get<std::string>() + expected["scalar_record"].get<std::string>();
  ASSERT_GT(written.size(), tail.size());
  EXPECT_EQ(written.substr(written.size() - tail.size()), tail);
}

}  // namespace retort
