"""Which improvement step suits a CVAE policy where one way of acting is best?"""
