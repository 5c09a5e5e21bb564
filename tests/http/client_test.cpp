// The client against injected faults. Exit codes stand before the messages: 2 for bad input, 3 for a machine
// that fails.
#include "http/client.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/stop.h"
#include "http/loopback_server.h"

namespace retort {
namespace {

const Json kChat = {
    {"model", "toy"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"seed", 7}, {"temperature", 1}};

ServerSpec quick(int64_t tries = 4) {
  ServerSpec spec;
  spec.tries = tries;
  spec.first_wait = 0.01;
  spec.timeout = 5;
  return spec;
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

int unused_port() {
  const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address);
  socklen_t size = sizeof address;
  getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size);
  close(descriptor);
  return ntohs(address.sin_port);
}

TEST(HttpClient, FaultsThatPassAreTriedAgain) {
  for (const auto* fault : {"reset", "truncated", "half", "429", "500", "503", "408"}) {
    const LoopbackServer server(Json{{"faults", {fault, fault}}});
    HttpClient client(server.url(), quick());
    const auto reply = client.post("/chat/completions", kChat);
    EXPECT_EQ(reply.status, 200) << fault;
    EXPECT_EQ(reply.json.at("choices").at(0).at("message").at("content"), "hi -> 7 at 1") << fault;
    EXPECT_EQ(server.posts(), 3u) << fault;
    EXPECT_EQ(client.retries(), 2) << fault;
  }
}

TEST(HttpClient, FaultsThatStayAreOneClearLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"reset", "gave up after 2 tries"},
      {"truncated", "gave up after 2 tries"},
      {"half", "something that is not JSON"},
      {"429", "answers 429: fault 429; gave up after 2 tries"},
      {"500", "answers 500: fault 500; gave up after 2 tries"}};
  for (const auto& [fault, expected] : cases) {
    const LoopbackServer server(Json{{"faults", {fault, fault, fault}}});
    HttpClient client(server.url(), quick(2));
    const auto error = error_of([&] { client.post("/chat/completions", kChat); });
    EXPECT_TRUE(error.starts_with("3: " + server.url() + "/chat/completions: ")) << error;
    EXPECT_NE(error.find(expected), std::string::npos) << error;
    EXPECT_NE(error.find("the same command continues"), std::string::npos) << error;
    EXPECT_EQ(server.posts(), 2u) << fault;
  }
}

TEST(HttpClient, ARefusedConnectionIsTriedAgainAndSaysSo) {
  HttpClient client(fmt::format("http://127.0.0.1:{}/v1", unused_port()), quick(3));
  const auto error = error_of([&] { client.get("/models"); });
  EXPECT_TRUE(error.starts_with("3: ")) << error;
  EXPECT_NE(error.find("onnect"), std::string::npos)
      << error;  // "Failed to connect to ...", "Couldn't connect"
  EXPECT_NE(error.find("gave up after 3 tries"), std::string::npos) << error;
}

TEST(HttpClient, SlowAnswersEndAtTheTimeLimit) {
  const LoopbackServer server(Json{{"faults", {"slow:3", "slow:0.05"}}});
  auto spec = quick();
  spec.timeout = 0.5;
  HttpClient client(server.url(), spec);
  EXPECT_LT(seconds([&] { EXPECT_EQ(client.post("/chat/completions", kChat).status, 200); }), 2.5);
  EXPECT_EQ(client.retries(), 1);
}

TEST(HttpClient, RefusalsAreNotTriedAgain) {
  const LoopbackServer server(Json{{"faults", {"400", "401"}}});
  HttpClient client(server.url(), quick());
  const auto bad = client.post("/chat/completions", kChat);
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(bad.message, "fault 400");
  EXPECT_EQ(client.post("/chat/completions", kChat).status, 401);
  auto other = kChat;
  other["model"] = "tyo";
  const auto missing = client.post("/chat/completions", other);
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.message, "The model `tyo` does not exist.");
  EXPECT_EQ(client.retries(), 0);
}

TEST(HttpClient, RetryAfterHoldsEveryoneBack) {
  const LoopbackServer server(Json{{"faults", {"429:1"}}});
  HttpClient client(server.url(), quick());
  EXPECT_GE(seconds([&] {
              std::thread first([&] { EXPECT_EQ(client.post("/chat/completions", kChat).status, 200); });
              std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the first has its 429
              EXPECT_EQ(client.post("/chat/completions", kChat).status, 200);
              first.join();
            }),
            0.95);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_GE(requests[1].at("time").get<double>() - requests[0].at("time").get<double>(), 0.9);
  const LoopbackServer busy(Json{{"faults", {"503:100000"}}});
  HttpClient impatient(busy.url(), quick());
  EXPECT_NE(error_of([&] { impatient.post("/chat/completions", kChat); }).find("gave up after 1 try"),
            std::string::npos);
}

TEST(HttpClient, KeepsToItsRate) {
  const LoopbackServer server;
  auto spec = quick();
  spec.requests_per_minute = 600;
  HttpClient client(server.url(), spec);
  std::vector<std::thread> threads;
  EXPECT_GE(seconds([&] {
              for (int i = 0; i < 6; ++i)
                threads.emplace_back([&] { client.post("/chat/completions", kChat); });
              for (auto& thread : threads) thread.join();
            }),
            0.49);
  EXPECT_EQ(server.posts(), 6u);
}

TEST(HttpClient, AsksNoOtherHost) {
  const LoopbackServer elsewhere;
  const LoopbackServer server(
      Json{{"faults", {"redirect:http://127.0.0.1:" + std::to_string(elsewhere.port())}}});
  HttpClient client(server.url(), quick());
  const auto error = error_of([&] { client.post("/chat/completions", kChat); });
  EXPECT_NE(error.find("redirects to http://127.0.0.1:" + std::to_string(elsewhere.port())),
            std::string::npos)
      << error;
  EXPECT_NE(error.find("name the right address in teacher.url"), std::string::npos) << error;
  for (const auto* name : {"http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"})
    setenv(name, ("http://127.0.0.1:" + std::to_string(elsewhere.port())).c_str(), 1);
  EXPECT_EQ(client.post("/chat/completions", kChat).status, 200);
  for (const auto* name : {"http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"})
    unsetenv(name);
  EXPECT_EQ(elsewhere.requests().size(), 0u);
  EXPECT_EQ(server.posts(), 2u);
}

TEST(HttpClient, TheTokenIsSentAndNeverRepeated) {
  TemporaryFolder folder;
  const LoopbackServer server(Json{{"token", "sk-right"}});
  auto spec = quick();
  spec.token_file = folder.write("token", "sk-right\n");
  HttpClient right(server.url(), spec);
  EXPECT_EQ(right.get("/models").status, 200);
  spec.token_file = folder.write("wrong", "sk-secret-and-wrong");
  HttpClient wrong(server.url(), spec);
  const auto reply = wrong.get("/models");
  EXPECT_EQ(reply.status, 401);
  EXPECT_EQ(reply.message, "wrong key: Bearer ***");  // the server repeats what it was sent
  EXPECT_EQ(server.requests().at(1).at("authorization"), "Bearer sk-secret-and-wrong");
}

TEST(HttpClient, TokensThatCannotBeSentSafelyAreRefused) {
  TemporaryFolder folder;
  ServerSpec spec;
  spec.token_file = folder.write("token", "sk-1");
  EXPECT_NE(error_of([&] {
              HttpClient("http://example.com/v1", spec);
            }).find("2: teacher.server.token_file: http://example.com/v1 is not encrypted"),
            std::string::npos);
  EXPECT_NE(error_of([&] { HttpClient("http://127.0.0.1.example.com/v1", spec); }).find("is not encrypted"),
            std::string::npos);
  EXPECT_EQ(error_of([&] { HttpClient("http://[::1]:8000/v1", spec); }), "none");
  EXPECT_EQ(error_of([&] { HttpClient("https://example.com/v1", spec); }), "none");
  for (const auto* text : {"", "\n", "two\nlines", "with space", "a\r\nX-Other: header"}) {
    spec.token_file = folder.write("token", text);
    const auto error = error_of([&] { HttpClient("https://example.com/v1", spec); });
    EXPECT_NE(error.find("expected one line that holds a token"), std::string::npos) << text;
  }
  spec.token_file = folder / "absent";
  EXPECT_NE(error_of([&] { HttpClient("https://example.com/v1", spec); }).find("No such file"),
            std::string::npos);
}

TEST(HttpClient, CertificatesAreVerified) {
  TemporaryFolder folder;
  const auto certificate = folder / "cert.pem", key = folder / "key.pem";
  const auto made = std::system(
      fmt::format("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
                  "/CN=localhost -addext subjectAltName=DNS:localhost -keyout '{}' -out '{}' 2>/dev/null",
                  key, certificate)
          .c_str());
  if (made != 0) GTEST_SKIP() << "the openssl command is absent";
  const LoopbackServer server(Json{{"tls", {certificate, key}}});
  auto spec = quick();
  const auto unknown = error_of([&] { HttpClient(server.url("https", "localhost"), spec).get("/models"); });
  EXPECT_TRUE(unknown.starts_with("3: ")) << unknown;
  EXPECT_NE(unknown.find("certificate"), std::string::npos) << unknown;
  EXPECT_EQ(unknown.find("gave up"), std::string::npos) << unknown;  // another try would not help
  spec.ca_file = certificate;
  EXPECT_EQ(HttpClient(server.url("https", "localhost"), spec).get("/models").status, 200);
  const auto other_name =
      error_of([&] { HttpClient(server.url("https", "127.0.0.1"), spec).get("/models"); });
  EXPECT_NE(other_name.find("127.0.0.1"), std::string::npos) << other_name;
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST(HttpClient, AStopEndsARequestAndAWait) {
  const LoopbackServer server(Json{{"faults", {"slow:20", "429:60"}}});
  auto spec = quick();
  spec.timeout = 30;
  for (int i = 0; i < 2; ++i) {
    HttpClient client(server.url(), spec);
    std::thread stopper([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(400));
      request_stop();
    });
    EXPECT_LT(seconds([&] {
                EXPECT_TRUE(error_of([&] {
                              client.post("/chat/completions", kChat);
                            }).starts_with("75: stopped while"));
              }),
              5);
    stopper.join();
    forget_stop();
  }
}

}  // namespace
}  // namespace retort
