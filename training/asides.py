"""Sentences that ask for nothing: training puts them around requests, to be ignored.

None holds a value that a call, a count or a sum could want.
"""

ASIDES = """My sister asked me this yesterday.
I have no idea how to do it myself.
We are in a bit of a hurry here.
It is raining and I am bored.
Sorry for the short message, I am on my phone.
I hope you are well.
This is for a school project.
My boss wants to know.
Nothing urgent.
I tried it on paper and failed.
The kids are asleep, so I finally have time.
I asked somebody else and got a strange answer.
You helped me last time, so here I am again.
Let me know when it is done.
I am not good with computers.
No rush at all.
Take it as a small test.
I promised a friend to find out.
My coffee is getting cold.
We had a long discussion about it at lunch.
I keep forgetting this.
Do not worry about the details.
It came up in a quiz last night.
The train is late again.
I could not find it anywhere else.
This should be easy for you.
I am writing this on the bus.
Somebody at work bet that you would get it wrong.
My grandfather would have known.
Please excuse my English.
I just installed you and want to see what happens.
There is a lot of noise here, so I type.
The other assistant could not do it.
It is late, I know.
I have been meaning to do this for weeks.
The meeting starts any minute.
I do not need a long story.
My neighbour says hello.
We moved house and everything is a mess.
The dog is barking at me.
I am new here.
It matters to me more than you think.
I will explain later why.
That is all I need for now.
Everything else is already taken care of.
I would do it myself, but my hands are full.
My professor likes such questions.
Funny that nobody wrote it down.
It is for the newsletter.
I lost my notes.
Let us get this over with.
You can keep it short.
I am sitting in the garden.
Honestly, it has been a long day.
This keeps me awake.
Somehow I always mix this up.
We are all waiting for your answer.
The shop closes soon.
I read your manual, at least half of it.
Good to have you here.
Not sure whether I say this right.
I am only asking once.
The last one worked well.
My daughter is looking over my shoulder.
Back to work.""".splitlines()
