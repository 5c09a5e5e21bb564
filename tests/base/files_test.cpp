#include "base/files.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "base/bus_error.h"
#include "base/error.h"
#include "base/hash.h"

namespace retort {
namespace {

class FilesTest : public testing::Test {
 protected:
  FilesTest()
      : folder_(std::filesystem::canonical(std::filesystem::temp_directory_path()) /
                ("retort-files-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~FilesTest() override { std::filesystem::remove_all(folder_); }
  const std::filesystem::path folder_;
};

template <class Kind, class Run> std::string message_of(Run&& run) {
  try {
    run();
  } catch (const Kind& error) { return error.what(); }
  return "no error";
}

}  // namespace

TEST_F(FilesTest, AppearWholeOrNotAtAll) {
  {
    AtomicFile file(folder_ / "sub" / "a");
    file.write("half");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "sub" / "a"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "sub"));  // given up: nothing is left
  AtomicFile file(folder_ / "a");
  const std::string large(3 << 20, 'x');
  file.write("begin ");
  file.write(large);
  file.write(" end");
  EXPECT_EQ(file.size(), large.size() + 10);
  file.commit();
  EXPECT_EQ(read_text(folder_ / "a"), "begin " + large + " end");
  EXPECT_EQ(files_written().back(), folder_ / "a");
}

TEST_F(FilesTest, NeverFollowsAPlantedTemporaryName) {
  write_text(folder_ / "precious", "keep");
  std::filesystem::create_symlink(folder_ / "precious", folder_ / ("a.part-" + std::to_string(getpid())));
  EXPECT_THROW(AtomicFile(folder_ / "a"), Failure);
  EXPECT_EQ(read_text(folder_ / "precious"), "keep");
}

TEST_F(FilesTest, AreRefusedWhenTheyAreNoRegularFiles) {
  EXPECT_EQ(message_of<FormatError>([&] { MappedFile(folder_ / "absent"); }),
            (folder_ / "absent").string() + ": cannot be opened: No such file or directory");
  EXPECT_EQ(message_of<FormatError>([&] { MappedFile{folder_}; }),
            folder_.string() + ": is a folder; expected a file");
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(message_of<FormatError>([&] { MappedFile(folder_ / "pipe"); }),
            (folder_ / "pipe").string() + ": is not a regular file");
  write_text(folder_ / "empty", "");
  EXPECT_TRUE(MappedFile(folder_ / "empty").bytes().empty());
  EXPECT_EQ(message_of<FormatError>([&] { write_text(folder_ / "x", "12345"), read_text(folder_ / "x", 4); }),
            (folder_ / "x").string() + ": is 5 bytes; at most 4 bytes are read");
}

TEST_F(FilesTest, ChangeWhileTheyAreReadIsNoticed) {
  write_text(folder_ / "a", "1234");
  const MappedFile file(folder_ / "a");
  file.require_unchanged();
  std::ofstream(folder_ / "a", std::ios::app) << "5";
  EXPECT_EQ(
      message_of<FormatError>([&] { file.require_unchanged(); }),
      (folder_ / "a").string() + ": changed while it was being read; start again when nothing writes to it");
}

TEST_F(FilesTest, TruncationBecomesOneErrorLine) {
  const std::string content(20000, 'x');
  write_text(folder_ / "a", content);
  EXPECT_EXIT(
      {
        catch_bus_errors();
        const MappedFile other(folder_ / "a");
        MappedFile first(folder_ / "a");
        const MappedFile file(std::move(first));
        if (::truncate(file.name().c_str(), 0) != 0) ::_exit(9);
        volatile auto byte = file.bytes()[15000];
        static_cast<void>(byte);
        ::_exit(0);
      },
      testing::ExitedWithCode(2), "retort-files-.*/a: became shorter while it was being read");
}

TEST_F(FilesTest, BusErrorsElsewhereKeepTheirMeaning) {
  EXPECT_EXIT(
      {
        catch_bus_errors();
        ::raise(SIGBUS);
        ::raise(SIGBUS);
        ::_exit(0);
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST_F(FilesTest, NamesFromAFileStayInItsFolder) {
  const auto model = folder_ / "model";
  make_folder(model);
  write_text(model / "a", "a");
  write_text(folder_ / "outside", "secret");
  EXPECT_EQ(file_beneath(model, "a"), model / "a");
  for (const auto& name :
       {std::string("../outside"), (folder_ / "outside").string(), std::string(".."), std::string("."),
        std::string(""), std::string("x/../a"), std::string("a\0b", 3), std::string("..\\outside")})
    EXPECT_NE(message_of<FormatError>([&] { file_beneath(model, name); }).find("is not a plain file name"),
              std::string::npos)
        << name;

  std::filesystem::create_symlink("a", model / "inside");
  EXPECT_EQ(file_beneath(model, "inside"), model / "inside");
  std::filesystem::create_symlink(folder_ / "outside", model / "out");
  EXPECT_NE(message_of<FormatError>([&] { file_beneath(model, "out"); }).find("outside the model's folder"),
            std::string::npos);
  std::filesystem::create_symlink("../model2/x", model / "near");  // a folder whose name only begins the same
  make_folder(folder_ / "model2");
  write_text(folder_ / "model2" / "x", "x");
  EXPECT_NE(message_of<FormatError>([&] { file_beneath(model, "near"); }).find("outside the model's folder"),
            std::string::npos);
  std::filesystem::create_symlink("loop2", model / "loop1");
  std::filesystem::create_symlink("loop1", model / "loop2");
  EXPECT_NE(message_of<FormatError>([&] {
              file_beneath(model, "loop1");
            }).find("cannot be opened: Too many levels of symbolic links"),
            std::string::npos);
  EXPECT_NE(message_of<FormatError>([&] { file_beneath(model, "absent"); }).find("cannot be opened"),
            std::string::npos);
}

TEST_F(FilesTest, LinksOfAHubCacheLeadToItsBlobs) {
  write_text(folder_ / "hub" / "blobs" / "1234", "weights");
  make_folder(folder_ / "hub" / "snapshots" / "main");
  write_text(folder_ / "secret", "secret");
  std::filesystem::create_symlink("../../blobs/1234",
                                  folder_ / "hub" / "snapshots" / "main" / "model.safetensors");
  std::filesystem::create_symlink("../../../secret", folder_ / "hub" / "snapshots" / "main" / "config.json");
  EXPECT_EQ(read_text(file_beneath(folder_ / "hub" / "snapshots" / "main", "model.safetensors")), "weights");
  EXPECT_THROW(file_beneath(folder_ / "hub" / "snapshots" / "main", "config.json"), FormatError);
}

TEST_F(FilesTest, FullDiskIsReportedBeforeWriting) {
  EXPECT_NE(message_of<Failure>([&] { require_space(folder_, uint64_t{1} << 60); }).find("free some space"),
            std::string::npos);
  require_space(folder_, 1);
}

TEST_F(FilesTest, WritesThatFailSayWhy) {
  EXPECT_EQ(message_of<Failure>([&] { write_text("/proc/retort-cannot-write-here", "x"); }).substr(0, 30),
            "/proc/retort-cannot-write-here");
  write_text(folder_ / "plain", "");
  EXPECT_NE(message_of<Failure>([&] { write_text(folder_ / "plain" / "x", "x"); }), "no error");
}

TEST(Hash, EqualsThePublishedVectors) {  // FIPS 180-4 examples
  EXPECT_EQ(sha256(std::string_view("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256(std::string_view("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256().add("a").add("bc").hex(), sha256(std::string_view("abc")));
}

TEST_F(FilesTest, HashesOfFilesAreThoseOfTheirBytes) {
  write_text(folder_ / "abc", "abc");
  EXPECT_EQ(sha256_file(folder_ / "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  write_text(folder_ / "none", "");
  EXPECT_EQ(sha256_file(folder_ / "none"),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace retort
